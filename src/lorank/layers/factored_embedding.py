r"""A table of vectors whose rows are products: row t is B a_t + m, with a_t [r] its own, B [dim, r] and m [dim] shared.

It holds r (tokens + dim) + dim weights, where the table has tokens dim.
"""

from typing import Self

import torch
from torch import Tensor, nn

from lorank.errors import UsageError


class FactoredEmbedding(nn.Module):
    """Row t is ``second`` (``first`` (t)).

    Args:
        num_embeddings: The number of rows.
        embedding_dim: The width of a row.
        rank: The width of the smaller table, from 1 to min(rows, width).
        padding_idx: The row of padding, which models read to number positions; None where there is none.

    Raises:
        UsageError: For a rank out of its range.

    >>> FactoredEmbedding(100, 8, rank=2)(torch.tensor([[1, 2, 3]])).shape
    torch.Size([1, 3, 8])
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, rank: int, padding_idx: int | None = None) -> None:
        super().__init__()
        if not 1 <= rank <= min(num_embeddings, embedding_dim):
            raise UsageError(
                f"rank {rank} of a table [{num_embeddings}, {embedding_dim}] is out of its range; write an integer "
                f"from 1 to {min(num_embeddings, embedding_dim)}"
            )
        self.num_embeddings, self.embedding_dim, self.rank = num_embeddings, embedding_dim, rank
        self.padding_idx = padding_idx
        self.first = nn.Embedding(num_embeddings, rank)
        self.second = nn.Linear(rank, embedding_dim)

    @classmethod
    def of(cls, first: Tensor, second: Tensor, mean: Tensor, padding_idx: int | None = None) -> Self:
        """Return the table with ``first`` [rows, r], ``second`` [dim, r] and ``mean`` [dim] as its weights."""
        with torch.device("meta"):
            layer = cls(first.shape[0], second.shape[0], first.shape[1], padding_idx)
        layer.first.weight = nn.Parameter(first.contiguous())
        layer.second.weight = nn.Parameter(second.contiguous())
        layer.second.bias = nn.Parameter(mean.contiguous())
        return layer

    def forward(self, ids: Tensor) -> Tensor:
        """Return the rows [..., dim] of ``ids`` [...]."""
        return self.second(self.first(ids))  # type: ignore[no-any-return]

    @property
    def weight(self) -> Tensor:
        """The whole table [rows, dim], computed on every access."""
        return self.second(self.first.weight)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        """Return the shape and the rank."""
        return f"{self.num_embeddings}, {self.embedding_dim}, rank={self.rank}"
