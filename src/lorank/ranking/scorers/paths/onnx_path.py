"""Scoring by onnxruntime: the exported graph in float32, and with weights and activations quantised to int8."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from lorank.ranking.scorers.cross_encoder import CrossEncoder
from lorank.ranking.scorers.paths.exported import TensorsToLogits, example, input_names, make_scorer, silent
from lorank.ranking.scorers.paths.path import Logits, path
from lorank.ranking.scorers.scoring_mode import scoring

PACKAGES = ("onnx", "onnxruntime", "onnxscript")


@path("onnxruntime-float32", packages=PACKAGES, extra="onnx")
def open_float32(ranker: CrossEncoder) -> Logits:
    """Return float32 logits of the exported graph."""
    return _open(ranker, lambda graph: graph)


@path("onnxruntime-int8", packages=PACKAGES, extra="onnx")
def open_int8(ranker: CrossEncoder) -> Logits:
    """Return logits of the exported graph with products in int8, quantised as it runs."""
    return _open(ranker, write_quantised_graph)


def _open(ranker: CrossEncoder, change: Callable[[Path], Path]) -> Logits:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    with TemporaryDirectory() as folder:
        graph = change(write_graph(ranker, Path(folder) / "model.onnx"))
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return make_scorer(ranker, lambda named: session.run(None, named)[0])


def write_graph(ranker: CrossEncoder, graph: Path) -> Path:
    """Write the classifier as an ONNX graph with free batch size and length."""
    names = input_names(ranker)
    batch, length = torch.export.Dim("batch", min=1, max=4096), torch.export.Dim("length", min=2, max=ranker.max_length)
    with silent("torch.onnx", "onnxscript", "onnx_ir"), scoring(ranker.module), torch.no_grad():
        torch.onnx.export(
            TensorsToLogits(ranker).eval(),
            example(ranker),
            graph,
            dynamo=True,
            verbose=False,
            input_names=list(names),
            output_names=["logits"],
            external_data=False,
            dynamic_shapes=tuple({0: batch, 1: length} for _ in names),
        )
    return graph


def write_quantised_graph(graph: Path) -> Path:
    """Write the graph with int8 weights, one scale an output, and activations quantised as it runs."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(graph)
    del model.graph.value_info[:]  # the exporter's own shapes trip the quantiser's inference
    target = graph.with_name("model-int8.onnx")
    with silent("root"):
        quantize_dynamic(
            model,
            target,
            per_channel=True,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul", "Gemm"],
            extra_options={"DefaultTensorType": 1},
        )
    return target
