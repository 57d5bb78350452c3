"""Pairs of positions: the different ones that a grid of lists asks about, and the texts that they need."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lorank.ranking.scorers.ranker import Documents
from lorank.ranking.scorers.texts import checked_pairs, checked_texts


@dataclass(frozen=True)
class GridPairs:
    """The different pairs int64 [n, 2] of (query, document) in a grid; ``at`` says which stands at each open place."""

    pairs: np.ndarray
    at: np.ndarray

    @classmethod
    def of(cls, queries: Tensor, documents: Tensor, mask: Tensor) -> "GridPairs":
        """Return the pairs of ``queries`` [batch] and ``documents`` [batch, list] where ``mask`` is True.

        >>> asked = GridPairs.of(torch.tensor([0, 0]), torch.tensor([[3, 4], [4, 9]]),
        ...                      torch.tensor([[True, True], [True, False]]))
        >>> asked.pairs.tolist(), asked.at.tolist()
        ([[0, 3], [0, 4]], [0, 1, 1])
        """
        inside = mask.cpu().numpy()
        rows = np.broadcast_to(queries.cpu().numpy()[:, None], inside.shape)[inside]
        pairs, at = np.unique(np.stack([rows, documents.cpu().numpy()[inside]], 1), axis=0, return_inverse=True)
        return cls(pairs, at.reshape(-1))

    def __len__(self) -> int:
        return len(self.pairs)

    def grid(self, scores: Tensor, mask: Tensor) -> Tensor:
        """Return the scores [n] of the pairs laid out [batch, list]; masked places hold 0."""
        return lay_out(scores[torch.from_numpy(self.at).to(scores.device)], mask)


def lay_out(values: Tensor, mask: Tensor) -> Tensor:
    """Return ``values`` [n, ...], one for each open place of ``mask`` in order, as [batch, list, ...]; 0 elsewhere.

    >>> lay_out(torch.tensor([5.0, 7.0]), torch.tensor([[True, False], [False, True]]))
    tensor([[5., 0.],
            [0., 7.]])
    """
    empty = torch.zeros((*mask.shape, *values.shape[1:]), device=values.device)
    places = mask.to(values.device).view(*mask.shape, *(1,) * (values.dim() - 1))
    return empty.masked_scatter(places.expand_as(empty), values)


def used_texts(
    queries: Sequence[str], documents: Documents, pairs: np.ndarray
) -> tuple[list[str], list[str], np.ndarray]:
    """Return the queries and the documents that stand in ``pairs`` [n, 2], and the pairs of positions in those.

    Raises UsageError for what is no string, by its position, and for positions that do not exist.

    >>> used_texts(["a", "b"], ["x", "y", "z"], np.array([[1, 2], [1, 0]]))
    (['b'], ['x', 'z'], array([[0, 1],
           [0, 0]]))
    """
    pairs = checked_pairs(queries, documents, pairs)
    used_queries, query_at = np.unique(pairs[:, 0], return_inverse=True)
    used_documents, document_at = np.unique(pairs[:, 1], return_inverse=True)
    at = np.stack([query_at.reshape(-1), document_at.reshape(-1)], 1)
    asked = checked_texts((queries[i] for i in used_queries), "query", used_queries)
    return asked, checked_texts((documents[i] for i in used_documents), "document", used_documents), at
