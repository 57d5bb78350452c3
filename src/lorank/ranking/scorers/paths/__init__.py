"""How a cross-encoder's logits are computed on a CPU: float32, bfloat16, int8, by torch, onnxruntime, openvino."""

from lorank.ranking.scorers.paths import onnx_path, openvino_path, torch_path
from lorank.ranking.scorers.paths.path import PATHS, Path, open_path, path, run_on
from lorank.ranking.scorers.paths.self_test import PathTested, choose_path, self_test

__all__ = [
    "PATHS",
    "Path",
    "PathTested",
    "choose_path",
    "onnx_path",
    "open_path",
    "openvino_path",
    "path",
    "run_on",
    "self_test",
    "torch_path",
]
