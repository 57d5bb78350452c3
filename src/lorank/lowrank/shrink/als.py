r"""Alternating least squares: A and B take turns in being the best for the other.

    B = M A^T (A A^T)^+,     A = (B^T B)^+ B^T M

It ends at the SVD's product without computing one, and its cost per round is 2 m n r. It stands for methods that know
no closed form (weights on entries, constraints); see `lorank.lowrank.shrink.decompose`.
"""

import torch
from torch import Tensor

from lorank.lowrank.shrink.core.decomposition import Decomposition
from lorank.lowrank.shrink.core.shrinker import Weight, shrinker

ROUNDS = 30


def alternating_least_squares(
    matrix: Tensor, rank: int, generator: torch.Generator, rounds: int = ROUNDS
) -> tuple[Tensor, Tensor]:
    """Return A [r, n] and B [m, r] of a matrix [m, n].

    Args:
        matrix: The matrix, in float64.
        rank: From 1 to min(m, n).
        generator: The source of the first A.
        rounds: How often both are solved for, 1 or more.
    """
    first = torch.randn(rank, matrix.shape[1], generator=generator, dtype=matrix.dtype).to(matrix.device)
    second = matrix.new_zeros(matrix.shape[0], rank)
    for _ in range(rounds):
        first = torch.linalg.qr(first.t()).Q.t()
        second = matrix @ first.t()
        second = torch.linalg.qr(second).Q
        first = second.t() @ matrix
    return first, second


@shrinker("als", title="Alternating least squares", published=False)
def als(weight: Weight, rounds: int = ROUNDS) -> Decomposition:
    """Return products that alternating least squares finds, rank by rank.

    Args:
        weight: The weight.
        rounds: How often both factors are solved for, 1 or more.
    """
    matrix, seed = weight.matrix, weight.generator.initial_seed()

    def at(rank: int) -> tuple[Tensor, Tensor]:
        return alternating_least_squares(matrix, rank, torch.Generator().manual_seed(seed), rounds)

    return Decomposition(matrix, torch.linalg.svdvals(matrix).square(), at)
