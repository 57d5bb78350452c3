"""Scoring by openvino: the traced graph in float32 or bfloat16, and with weights and activations in int8.

The int8 graph needs a few batches to see the range of each activation. They are made of the probe texts that a saved
ranker is compared on, and of the same with random tokens in place of their words: a few texts alone show too narrow
ranges, and scores of other texts are cut off.
"""

from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import numpy as np
import torch

from lorank.ranking.scorers.batching import batches_by_length
from lorank.ranking.scorers.cross_encoder import CrossEncoder
from lorank.ranking.scorers.folders import PROBE_DOCUMENTS, PROBE_QUERIES
from lorank.ranking.scorers.paths.exported import TensorsToLogits, arrays, example, input_names, make_scorer, silent
from lorank.ranking.scorers.paths.path import Logits, path
from lorank.ranking.scorers.scoring_mode import scoring

PACKAGES = ("openvino",)


@path("openvino-float32", packages=PACKAGES, extra="openvino")
def open_float32(ranker: CrossEncoder) -> Logits:
    """Return float32 logits of the traced graph."""
    return _compile(ranker, trace(ranker), "f32")


@path("openvino-bfloat16", packages=PACKAGES, extra="openvino")
def open_bfloat16(ranker: CrossEncoder) -> Logits:
    """Return logits of the traced graph, computed in bfloat16 where the CPU has it."""
    return _compile(ranker, trace(ranker), "bf16")


@path("openvino-int8", packages=("openvino", "nncf"), extra="openvino")
def open_int8(ranker: CrossEncoder) -> Logits:
    """Return logits of the traced graph with weights and activations in int8."""
    import nncf

    nncf.set_log_level("ERROR")
    batches, graph = list(probe_batches(ranker)), trace(ranker)
    batches += list(random_batches(ranker, batches))
    with redirect_stdout(StringIO()):  # its progress bars would stand in the results
        graph = nncf.quantize(
            graph, nncf.Dataset(batches), subset_size=len(batches), model_type=nncf.ModelType.TRANSFORMER
        )
    return _compile(ranker, graph, "bf16")


def trace(ranker: CrossEncoder) -> Any:
    """Return the classifier as an openvino model with free batch size and length."""
    import openvino

    names = input_names(ranker)
    with scoring(ranker.module), torch.no_grad(), silent():
        graph = openvino.convert_model(
            TensorsToLogits(ranker).eval(),
            example_input=example(ranker),
            input=[([-1, -1], openvino.Type.i64)] * len(names),
        )
    for tensor, name in zip(graph.inputs, names, strict=True):
        tensor.get_tensor().set_names({name})
    return graph


def _compile(ranker: CrossEncoder, graph: Any, precision: str) -> Logits:
    import openvino

    compiled = openvino.compile_model(
        graph, "CPU", {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    )
    return make_scorer(ranker, lambda named: compiled(named)[0])


def probe_batches(ranker: CrossEncoder, rounds: int = 8) -> Iterator[dict[str, np.ndarray]]:
    """Yield padded batches of the probe texts, in other combinations each round."""
    documents = list(PROBE_DOCUMENTS)
    inputs = ranker.prepare(PROBE_QUERIES, documents)
    pairs = np.array([(q, d) for q in range(len(PROBE_QUERIES)) for d in range(len(documents))])
    spans = ranker.first_spans(inputs, pairs)
    lengths = spans.query.length + spans.document.length
    for turn in range(rounds):
        for rows in batches_by_length(lengths, 256, np.roll(np.arange(len(pairs)), turn)):
            yield arrays(ranker, ranker.assemble(inputs, spans[rows]))


def random_batches(
    ranker: CrossEncoder, batches: Iterable[dict[str, np.ndarray]], seed: int = 0
) -> Iterator[dict[str, np.ndarray]]:
    """Yield the batches with random tokens of the vocabulary in place of all that are not special."""
    special = ranker.tokenizer.all_special_ids
    ordinary, rng = np.setdiff1d(np.arange(len(ranker.tokenizer)), special), np.random.default_rng(seed)
    for batch in batches:
        ids = batch["input_ids"]
        yield batch | {"input_ids": np.where(np.isin(ids, special), ids, rng.choice(ordinary, ids.shape))}
