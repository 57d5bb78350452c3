r"""CUR: a matrix from some of its own columns and rows.

    M ~ C U R,   C [m, r] columns, R [r, n] rows,   U = C^+ M R^+

Columns and rows are those of the highest leverage, l_j = |V_r[j]|^2 and |U_r[i]|^2, the squared norms of the rows of
the leading singular vectors. As a layer it is B = C U and A = R. Its error is at least the SVD's.

M. Mahoney and P. Drineas, CUR matrix decompositions for improved data analysis, PNAS 2009.

*Deviations*: the highest leverages are taken, not drawn by them, so that the same matrix gives the same rows.
"""

import torch
from torch import Tensor

from lorank.lowrank.linalg import top_k_svd
from lorank.lowrank.shrink.core.decomposition import Decomposition
from lorank.lowrank.shrink.core.shrinker import Weight, shrinker


def choose_by_leverage(vectors: Tensor, rank: int) -> Tensor:
    """Return the places of the ``rank`` rows of ``vectors`` [n, r] of the largest norms, rising."""
    return vectors.square().sum(1).topk(rank).indices.sort().values


def cur_factors(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return C [m, r], U [r, r] and R [r, n] of a matrix [m, n].

    >>> C, U, R = cur_factors(torch.tensor([[1.0, 2.0], [2.0, 4.0]], dtype=torch.float64), 1)
    >>> (C @ U @ R).round(decimals=4).tolist()
    [[1.0, 2.0], [2.0, 4.0]]
    """
    U, _, Vh = top_k_svd(matrix, rank)
    columns, rows = matrix[:, choose_by_leverage(Vh.t(), rank)], matrix[choose_by_leverage(U, rank)]
    middle = torch.linalg.pinv(columns) @ matrix @ torch.linalg.pinv(rows)
    return columns, middle, rows


@shrinker("cur", title="CUR decomposition", published=False)
def cur(weight: Weight) -> Decomposition:
    """Return products of the columns and rows of highest leverage.

    Args:
        weight: The weight.
    """
    matrix = weight.matrix

    def at(rank: int) -> tuple[Tensor, Tensor]:
        columns, middle, rows = cur_factors(matrix, rank)
        return rows, columns @ middle

    return Decomposition(matrix, torch.linalg.svdvals(matrix).square(), at)
