"""Learning a stream of collections: each from the weights of the one before, with methods against forgetting."""

from lorank.continual import (
    codyra,
    mora_mixture,
    one_adapter_each,
    par_lifelong,
    plwf,
    protected,
    replay,
    sequential,
    tag_lifelong,
    tame,
)
from lorank.continual.core.matrix import QualityMatrix, to_markdown
from lorank.continual.core.method import METHODS, ContinualMethod, continual_method, make_method
from lorank.continual.core.stream import Stream
from lorank.continual.core.train_stream import RECORD, Streamed, train_stream

__all__ = [
    "METHODS",
    "RECORD",
    "ContinualMethod",
    "QualityMatrix",
    "Stream",
    "Streamed",
    "codyra",
    "continual_method",
    "make_method",
    "mora_mixture",
    "one_adapter_each",
    "par_lifelong",
    "plwf",
    "protected",
    "replay",
    "sequential",
    "tag_lifelong",
    "tame",
    "to_markdown",
    "train_stream",
]
