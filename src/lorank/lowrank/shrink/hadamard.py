r"""Hadamard products: a matrix as the entrywise product of two matrices of low rank.

    M ~ (A1 B1) o (A2 B2),      rank up to r1 r2 with (r1 + r2)(m + n) numbers

Each factor in turn solves a weighted least-squares problem: with N = A2 B2 fixed, row i of A1 solves
min_a sum_j N_ij^2 (M_ij / N_ij - a B1_j)^2, that is least squares with the rows B1_j N_ij. The error never rises.
"""

import torch
from torch import Tensor

from lorank.errors import UsageError

DAMPING = 1e-12


def nearest_hadamard(
    matrix: Tensor, ranks: tuple[int, int], generator: torch.Generator, rounds: int = 200, starts: int = 5
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return (A1 [m, r1], B1 [r1, n]) and (A2 [m, r2], B2 [r2, n]) whose entrywise product is near ``matrix``.

    The problem has local minima: the best of several starts is returned.

    Args:
        matrix: M [m, n], in float64.
        ranks: r1 and r2, from 1 to min(m, n).
        generator: The source of the starts.
        rounds: How often every factor is solved for, 1 or more.
        starts: How many starts are tried, 1 or more.

    Raises:
        UsageError: For ranks out of their range.
    """
    if not all(1 <= rank <= min(matrix.shape) for rank in ranks):
        raise UsageError(
            f"ranks {ranks} of a matrix {list(matrix.shape)}: write integers from 1 to {min(matrix.shape)}"
        )
    found = [_alternate(matrix, ranks, generator, rounds) for _ in range(starts)]
    return min(found, key=lambda pairs: float((matrix - hadamard(pairs)).norm()))


def hadamard(pairs: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Tensor:
    """Return (A1 B1) o (A2 B2)."""
    (first, second), (third, fourth) = pairs
    return (first @ second) * (third @ fourth)


def _alternate(
    matrix: Tensor, ranks: tuple[int, int], generator: torch.Generator, rounds: int
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=matrix.dtype)

    rows, columns = matrix.shape
    pairs = [(draw(rows, rank), draw(rank, columns)) for rank in ranks]
    for _ in range(rounds):
        for own, other in ((0, 1), (1, 0)):
            weights = pairs[other][0] @ pairs[other][1]
            right = pairs[own][1]
            left = _solve_rows(matrix, weights, right)
            right = _solve_rows(matrix.t(), weights.t(), left.t()).t()
            pairs[own] = (left, right)
    return pairs[0], pairs[1]


def _solve_rows(matrix: Tensor, weights: Tensor, right: Tensor) -> Tensor:
    """Return A [m, r] that minimises |matrix - weights o (A right)|, row by row."""
    design = weights[:, :, None] * right.t()[None]  # [m, n, r]
    normal = design.transpose(1, 2) @ design
    scale = normal.diagonal(dim1=1, dim2=2).mean(1).clamp_min(torch.finfo(matrix.dtype).tiny)
    damped = normal + DAMPING * scale[:, None, None] * torch.eye(right.shape[0], dtype=matrix.dtype)
    solved: Tensor = torch.linalg.solve(damped, design.transpose(1, 2) @ matrix[:, :, None])
    return solved.squeeze(-1)
