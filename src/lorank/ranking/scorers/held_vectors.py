"""Scores of queries that learn against the vectors of documents that stay as they are.

    s(q, d) = max_p q . v_p  over the parts p of d,  or their mean,  or (max + w q . v_title) / (1 + w)

with a gradient for the query vectors alone: nothing is encoded but the queries.
"""

import numpy as np
import torch
from torch import Tensor

from lorank.ranking.scorers.encoded import EncodedDocuments


def similarities_to(queries: Tensor, held: EncodedDocuments, documents: np.ndarray) -> Tensor:
    """Return the similarities [queries, documents] with their graph.

    Args:
        queries: The query vectors [queries, dim].
        held: The vectors of documents.
        documents: The int64 [documents] positions of those that are scored.

    >>> held = EncodedDocuments(np.eye(3, dtype=np.float32), np.array([0, 2]), np.zeros(2, bool), "max")
    >>> similarities_to(torch.tensor([[0.2, 0.7, 0.1]]), held, np.array([1, 0])).tolist()
    [[0.1000..., 0.699...]]
    """
    chosen = held.of(documents)
    vectors = torch.from_numpy(chosen.vectors).to(queries.device, queries.dtype)
    values = queries @ vectors.T
    if len(chosen) == len(vectors):
        return values
    counts = torch.from_numpy(chosen.counts).to(queries.device)
    owner = torch.repeat_interleave(torch.arange(len(chosen), device=queries.device), counts).expand_as(values)
    empty = values.new_zeros(len(queries), len(chosen))
    if held.long == "mean":
        return empty.scatter_add(1, owner, values) / counts
    begins = torch.from_numpy(chosen.begins).to(queries.device)
    titled = torch.from_numpy(chosen.titled).to(queries.device)
    alone = torch.zeros(len(vectors), dtype=torch.bool, device=queries.device)
    alone[begins[titled]] = True
    passages = values.masked_fill(alone, -torch.inf)
    best = empty.scatter_reduce(1, owner, passages, "amax", include_self=False)
    blended = (best + held.title_weight * values[:, begins]) / (1 + held.title_weight)
    return torch.where(titled, blended, best)
