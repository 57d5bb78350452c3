r"""RankMe: how many directions a set of embeddings really uses, as a sign of quality that needs no labels.

    RankMe(Z) = exp( - sum_k p_k log p_k ),    p_k = sigma_k(Z) / sum_j sigma_j(Z) + eps,    Z [n, d]

d for embeddings spread evenly over all directions, 1 for collapsed ones; it changes neither with scale nor with
rotation. It follows downstream quality over the checkpoints of one run, and says little across architectures. It is
bounded by n, so that it needs many more texts than dimensions.

Garrido, Balestriero, Najman, LeCun, RankMe: Assessing the downstream performance of pretrained self-supervised
representations by their rank, 2022, arXiv:2210.02885.

*Deviations*: none; embeddings are not centred, as published.
"""

from typing import Any

import torch
from torch import Tensor

from lorank.catalogue import catalogued
from lorank.errors import UsageError

ENOUGH = 5
"""How many times as many rows as dimensions make the number of rows no bound in practice."""


@catalogued(
    "rankme",
    area="diagnose",
    title="RankMe: Assessing the downstream performance of pretrained self-supervised representations by their rank",
    reach="`lorank inspect RUN --data D`; it reads a model and trains nothing, so it has no recipe",
)
def rankme(embeddings: Any, eps: float = 1e-7) -> float:
    """Return the effective rank of ``embeddings`` [n, d].

    Args:
        embeddings: A tensor or an array of finite numbers.
        eps: What is added to each share.

    Raises:
        UsageError: For what is no matrix, or holds values that are no numbers.

    >>> round(rankme(torch.eye(8)), 3), round(rankme(torch.ones(8, 5)), 3)
    (8.0, 1.0)
    """
    matrix = torch.as_tensor(embeddings).double()
    if matrix.dim() != 2 or 0 in matrix.shape or not bool(torch.isfinite(matrix).all()):
        raise UsageError(f"embeddings are a matrix [texts, dimensions] of finite numbers, not {tuple(matrix.shape)}")
    values = torch.linalg.svdvals(matrix)
    if float(values[0]) == 0:
        return 0.0
    p = values / values.sum() + eps
    return float(torch.exp(-(p * p.log()).sum()))


def is_bounded_by_rows(embeddings: Tensor) -> bool:
    """Return whether there are so few rows [n, d] that n bounds the rank.

    >>> is_bounded_by_rows(torch.zeros(100, 384))
    True
    """
    return embeddings.shape[0] < ENOUGH * embeddings.shape[1]
