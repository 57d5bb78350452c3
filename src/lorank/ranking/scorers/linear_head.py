r"""The linear head of a ranker, s = w^T \phi + c, and what it reads of each document of a grid.

Within `reading_head` the head passes on what it reads, so that the ranker's own ``forward`` lays out the
representations \phi [batch, list, dim] as it lays out scores; the scores are then one product away, and nothing is
computed twice.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from lorank.errors import UsageError
from lorank.ranking.scorers.ranker import TrainableRanker

PASSAGES = ("max", "mean")
"""Ways to read long documents that make one score of several."""


def find_head(ranker: TrainableRanker) -> Any:
    """Return the last layer of a ranker whose score is what a linear layer of one output gives.

    Raises:
        UsageError: For a ranker that scores otherwise, and for one that makes one score of several passages.
    """
    if getattr(ranker, "long", None) in PASSAGES:
        raise UsageError(
            "representations are those of one passage per document; set reading.long to truncate (--long truncate)"
        )
    found = {name: module for name, module in ranker.module.named_modules() if _has_one_output(module)}
    outer = [module for name, module in found.items() if name.rpartition(".")[0] not in found or "." not in name]
    if not outer or getattr(ranker, "looks_across", False):
        raise UsageError(
            f"a {ranker.kind} has no linear head that scores each document by itself; use a cross-encoder, or the "
            "feature rankers mlp and linear"
        )
    return outer[-1]


def _has_one_output(module: nn.Module) -> bool:
    return getattr(module, "out_features", None) == 1 and hasattr(module, "weight")


@contextmanager
def reading_head(ranker: TrainableRanker) -> Iterator[Any]:
    """Within it ``ranker.forward`` returns what the head reads, [batch, list, dim]; yield the head.

    >>> import torch
    >>> from lorank.ranking.scorers import FeatureRanker
    >>> ranker, rows = FeatureRanker(features=3, model="linear", transform="none"), torch.eye(3)
    >>> with reading_head(ranker) as head:
    ...     read = ranker.forward(rows, torch.tensor([0]), torch.tensor([[2, 0]]), torch.tensor([[True, True]]))
    >>> read.tolist(), head.out_features
    ([[[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]], 1)
    """
    head = find_head(ranker)
    handle = head.register_forward_hook(lambda module, given, scored: given[0])
    try:
        yield head
    finally:
        handle.remove()
