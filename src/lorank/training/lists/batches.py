"""Batches: training lists laid out as a grid [batch, list] of positions, labels, mask and first-stage scores.

What a loss requires beyond that (see ``lorank.ranking.losses.EXTRAS``) stands in ``extras``, by name.

The lists of epoch e are a pure function of (seed, e): nothing about the order of examples has to be saved for
a resumed run to be the same run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lorank.data.candidates import TrainingList


class Route(NamedTuple):
    """The route of a list: the ``task``, counted from 0, and the ``preference``."""

    task: int | None = None
    preference: tuple[float, ...] | None = None


@dataclass(frozen=True)
class ListBatch:
    """A grid of lists: ``queries`` [batch], the rest [batch, list]; padding is False in ``mask``.

    ``weights`` are [batch], where the data brings them, and ``routes`` says what an adapter that routes is given.
    """

    queries: Tensor
    documents: Tensor
    labels: Tensor
    mask: Tensor
    first_stage: Tensor | None
    weights: Tensor | None = None
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    routes: Sequence[Route] | None = None

    def __len__(self) -> int:
        return len(self.queries)

    def to(self, device: torch.device) -> "ListBatch":
        """Return the batch on ``device``."""
        first_stage = None if self.first_stage is None else self.first_stage.to(device)
        weights = None if self.weights is None else self.weights.to(device)
        return ListBatch(
            self.queries.to(device),
            self.documents.to(device),
            self.labels.to(device),
            self.mask.to(device),
            first_stage,
            weights,
            {name: tensor.to(device) for name, tensor in self.extras.items()},
            self.routes,
        )


def epoch_order(count: int, epoch: int, seed: int) -> np.ndarray:
    """Return the order int64 [count] in which the lists of ``epoch`` are seen."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def pad_lists(lists: Sequence[TrainingList], query_at: Mapping[str, int]) -> ListBatch:
    """Lay each list in its own row, padded to the longest; ``query_at`` gives the position of a query's text."""
    width = max(len(each.documents) for each in lists)
    shape = (len(lists), width)
    documents, labels = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
    mask, first_stage = np.zeros(shape, bool), np.zeros(shape, np.float32)
    for row, each in enumerate(lists):
        size = len(each.documents)
        documents[row, :size], labels[row, :size], mask[row, :size] = each.documents, each.labels, True
        if each.first_stage is not None:
            first_stage[row, :size] = each.first_stage
    has_first_stage = any(each.first_stage is not None for each in lists)
    return _batch(lists, query_at, documents, labels, mask, first_stage if has_first_stage else None)


def share_documents(
    lists: Sequence[TrainingList], query_at: Mapping[str, int], relevant: Mapping[str, frozenset[int]]
) -> ListBatch:
    """Let every list hold all documents of the batch (in-batch negatives).

    A document that is judged relevant to a query but was drawn by another list is masked there, never taken
    for a negative; ``relevant`` holds, for each query, the positions of the documents judged relevant to it.
    """
    union = np.unique(np.concatenate([each.documents for each in lists]))
    column = {int(document): i for i, document in enumerate(union)}
    shape = (len(lists), len(union))
    labels, mask = np.zeros(shape, np.float32), np.ones(shape, bool)
    for row, each in enumerate(lists):
        mask[row, [column[d] for d in relevant[each.query_id] if d in column]] = False
        own = [column[int(d)] for d in each.documents]
        labels[row, own], mask[row, own] = each.labels, True
    return _batch(lists, query_at, np.broadcast_to(union, shape).copy(), labels, mask, None)


def _batch(
    lists: Sequence[TrainingList],
    query_at: Mapping[str, int],
    documents: np.ndarray,
    labels: np.ndarray,
    mask: np.ndarray,
    first_stage: np.ndarray | None,
) -> ListBatch:
    queries = torch.tensor([query_at[each.query_id] for each in lists], dtype=torch.int64)
    added = None if first_stage is None else torch.from_numpy(first_stage)
    return ListBatch(queries, torch.from_numpy(documents), torch.from_numpy(labels), torch.from_numpy(mask), added)
