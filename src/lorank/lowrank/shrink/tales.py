"""The decompositions of low-rank approximation under one name: SVD, ALS, CUR, Kronecker and Hadamard.

Low-Rank Approximation, Adaptation, and Other Tales, 2025 (a tutorial); every kernel is a file of this folder.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lorank.catalogue import catalogued
from lorank.errors import UsageError, unknown_name
from lorank.lowrank.linalg import top_k_svd
from lorank.lowrank.shrink.als import alternating_least_squares
from lorank.lowrank.shrink.cur import cur_factors
from lorank.lowrank.shrink.hadamard import hadamard, nearest_hadamard
from lorank.lowrank.shrink.kronecker import nearest_kronecker, sum_of_kronecker


def _svd(matrix: Tensor, rank: int, generator: torch.Generator) -> Tensor:
    U, s, Vh = top_k_svd(matrix, rank)
    return (U * s) @ Vh


def _als(matrix: Tensor, rank: int, generator: torch.Generator, rounds: int = 30) -> Tensor:
    first, second = alternating_least_squares(matrix, rank, generator, rounds)
    return second @ first


def _cur(matrix: Tensor, rank: int, generator: torch.Generator) -> Tensor:
    columns, middle, rows = cur_factors(matrix, rank)
    return columns @ middle @ rows


def _kronecker(matrix: Tensor, rank: int, generator: torch.Generator, shape: tuple[int, int] = (2, 2)) -> Tensor:
    return sum_of_kronecker(nearest_kronecker(matrix, shape, rank))


def _hadamard(matrix: Tensor, rank: int, generator: torch.Generator, rounds: int = 200) -> Tensor:
    return hadamard(nearest_hadamard(matrix, (rank, rank), generator, rounds))


KERNELS: dict[str, Callable[..., Tensor]] = {
    "svd": _svd,
    "als": _als,
    "cur": _cur,
    "kronecker": _kronecker,
    "hadamard": _hadamard,
}
"""Every kernel by name."""


@catalogued(
    "lowrank-tales",
    area="compress",
    title="Low-Rank Approximation, Adaptation, and Other Tales",
    reach="Python, `lorank shrink --method als` and `lorank shrink --method cur`: the other kernels are no products of "
    "two factors that a layer could take, and shrinking is no training run, so it has no recipe",
)
def approximate(matrix: Tensor, kernel: str = "svd", *, rank: int = 1, seed: int = 0, **options: Any) -> Tensor:
    """Return the approximation of a matrix by one of the kernels.

    Args:
        matrix: M [m, n], any floating dtype; the work is done in float64.
        kernel: ``svd``, ``als``, ``cur``, ``kronecker`` (``rank`` terms, ``shape`` of the first factor) or
            ``hadamard`` (two matrices of ``rank`` each).
        rank: The rank or the number of terms, 1 or more.
        seed: The seed of kernels that draw.
        options: The kernel's own options.

    Raises:
        UsageError: For an unknown kernel or option, and a rank out of its range.

    >>> approximate(torch.tensor([[1.0, 2.0], [2.0, 4.0]]), "cur", rank=1).round(decimals=4).tolist()
    [[1.0, 2.0], [2.0, 4.0]]
    """
    if kernel not in KERNELS:
        raise unknown_name("kernel", kernel, KERNELS)
    if matrix.dim() != 2 or rank < 1 or (kernel != "kronecker" and rank > min(matrix.shape)):
        raise UsageError(f"rank {rank} of a tensor {list(matrix.shape)}: give a matrix and a rank from 1 to its sides")
    known = set(KERNELS[kernel].__code__.co_varnames[3 : KERNELS[kernel].__code__.co_argcount])
    for option in options:
        if option not in known:
            raise UsageError(
                f"unknown option of kernel {kernel!r}: {option!r}; known: {', '.join(sorted(known)) or 'none'}"
            )
    made = KERNELS[kernel](matrix.double(), rank, torch.Generator().manual_seed(seed), **options)
    return made.to(matrix.dtype)
