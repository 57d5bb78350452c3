r"""The one seeded top-k singular value decomposition that every low-rank method calls.

For M [m, n] and k, returns U [m, k], s [k], V^T [k, n] with U diag(s) V^T the best rank-k approximation of M
(Eckart and Young, 1936), or close to it when ``method="randomised"`` (Halko, Martinsson and Tropp, 2011,
arXiv:0909.4061).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from lorank.errors import UsageError, unknown_name


class SVD(NamedTuple):
    """U [m, k] and V^T [k, n] with orthonormal columns and rows, s [k] descending and >= 0."""

    U: Tensor
    s: Tensor
    Vh: Tensor


def working_dtype(tensor: Tensor) -> torch.dtype:
    """Return the dtype that sums and decompositions of ``tensor`` run in: float64 stays, the rest is float32.

    >>> working_dtype(torch.zeros(1, dtype=torch.bfloat16))
    torch.float32
    """
    return torch.float64 if tensor.dtype is torch.float64 else torch.float32


def widen(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return ``tensors`` in the working dtype of the first: what is added or merged is computed in it.

    >>> [tensor.dtype for tensor in widen(torch.zeros(1).half(), torch.zeros(1).bfloat16())]
    [torch.float32, torch.float32]
    """
    return tuple(tensor.to(working_dtype(tensors[0])) for tensor in tensors)


def top_k_svd(
    matrix: Tensor,
    k: int,
    *,
    method: str = "exact",
    generator: torch.Generator | None = None,
    oversampling: int = 10,
    power_iterations: int = 4,
) -> SVD:
    """Return the k largest singular triplets of ``matrix``, the same ones on every call.

    Args:
        matrix: [m, n], any floating dtype; the work is done in float32, or float64 if given.
        k: how many triplets, from 0 up; more than min(m, n) gives min(m, n).
        method: ``"exact"`` or ``"randomised"``.
        generator: draws the test matrix of the randomised method (on the CPU), which needs it.
        oversampling: extra columns of the test matrix.
        power_iterations: passes over the matrix that sharpen the subspace; more for slowly decaying spectra.

    Returns:
        U, s, V^T in the working dtype on the matrix's device. In each column of U the entry of largest
        magnitude is positive, which fixes the signs.

    >>> U, s, Vh = top_k_svd(torch.tensor([[0.0, 2.0], [-3.0, 0.0]]), 1)
    >>> s.tolist(), U.flatten().tolist(), [abs(v) for v in Vh.flatten().tolist()]
    ([3.0], [0.0, 1.0], [1.0, 0.0])
    """
    if matrix.dim() != 2:
        raise UsageError(f"a singular value decomposition needs a matrix, not a tensor of shape {tuple(matrix.shape)}")
    if k < 0:
        raise UsageError(f"rank {k} is negative; write an integer from 0 up")
    if method not in _METHODS:
        raise unknown_name("SVD method", method, _METHODS)
    work = matrix.detach().to(working_dtype(matrix))
    k = min(k, *work.shape)
    U, s, Vh = _METHODS[method](work, k, generator, oversampling, power_iterations)
    return fix_signs(SVD(U[:, :k], s[:k], Vh[:k]))


def fix_signs(svd: SVD) -> SVD:
    """Flip each pair of vectors so that the entry of largest magnitude in each column of U is positive."""
    U, s, Vh = svd
    if U.numel() == 0:
        return svd
    largest = U.gather(0, U.abs().argmax(0, keepdim=True))
    signs = torch.where(largest < 0, -1.0, 1.0).to(U.dtype)
    return SVD(U * signs, s, Vh * signs.T)


def _exact(work: Tensor, k: int, *_: object) -> tuple[Tensor, Tensor, Tensor]:
    U, values, Vh = torch.linalg.svd(work, full_matrices=False)
    return U, values, Vh


def _randomise(
    work: Tensor, k: int, generator: torch.Generator | None, oversampling: int, power_iterations: int
) -> tuple[Tensor, Tensor, Tensor]:
    if generator is None:
        raise UsageError("the randomised SVD needs a generator; pass torch.Generator().manual_seed(...)")
    width = min(k + oversampling, *work.shape)
    test = torch.randn(work.shape[1], width, generator=generator, dtype=work.dtype).to(work.device)
    Q = torch.linalg.qr(work @ test).Q
    for _ in range(power_iterations):
        Q = torch.linalg.qr(work.T @ Q).Q
        Q = torch.linalg.qr(work @ Q).Q
    U, s, Vh = torch.linalg.svd(Q.T @ work, full_matrices=False)
    return Q @ U, s, Vh


_METHODS: dict[str, Callable[..., tuple[Tensor, Tensor, Tensor]]] = {"exact": _exact, "randomised": _randomise}


def gram(factor: Tensor) -> Tensor:
    """Return F F^T [r, r] of ``factor`` [r, n], in float64."""
    wide = factor.detach().double()
    return wide @ wide.t()


def damped_inverse(matrix: Tensor, damping: float) -> Tensor:
    """Return (M + d I)^-1 of a symmetric ``matrix`` M >= 0 [r, r], d = ``damping`` times M's mean diagonal.

    Directions in which M + d I is 0 up to rounding are left out, as in a pseudo-inverse: M = 0 gives 0.

    >>> damped_inverse(torch.diag(torch.tensor([2.0, 0.0])), 0.0).tolist()
    [[0.5, 0.0], [0.0, 0.0]]
    """
    values, vectors = torch.linalg.eigh(matrix)
    trace = matrix.diagonal().sum()
    values = values + damping * trace / max(len(matrix), 1)
    kept = values > torch.finfo(matrix.dtype).eps * len(matrix) * trace
    inverse: Tensor = (vectors * torch.where(kept, 1 / values, 0.0)) @ vectors.t()
    return inverse


def solve_sylvester(left: Tensor, right: Tensor, constant: Tensor) -> Tensor:
    """Return X [m, n] with ``left`` X + X ``right`` = ``constant`` for symmetric left, right >= 0.

    Where an eigenvalue of left and one of right are both 0 the equation says nothing, and X is 0 there.

    >>> solve_sylvester(torch.tensor([[1.0]]), torch.tensor([[3.0]]), torch.tensor([[8.0]])).tolist()
    [[2.0]]
    """
    (a, U), (b, V) = torch.linalg.eigh(left), torch.linalg.eigh(right)
    sums = a[:, None] + b[None, :]
    kept = sums > torch.finfo(sums.dtype).eps * (left.diagonal().sum() + right.diagonal().sum())
    solution: Tensor = U @ torch.where(kept, (U.t() @ constant @ V) / sums, 0.0) @ V.t()
    return solution
