r"""Sums, products and best approximations of updates s B A, on their factors.

    c (s B A)                  = (c s) B A
    s1 B1 A1 + s2 B2 A2        = [s1 B1, s2 B2] [A1; A2]
    <s1 B1 A1, s2 B2 A2>       = s1 s2 tr((B2^T B1) (A1 A2^T))
    B = Q_B R_B, A^T = Q_A R_A:  svd(s B A) = (Q_B U) diag(sigma) (Q_A V)^T  with  U diag(sigma) V^T = s R_B R_A^T

A is [k, in] and B [out, k]. No [out, in] matrix is formed; thin decompositions run in float64. The scale of a
result is 1: where updates of different scales meet, each scale is folded into its own B.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lorank.errors import UsageError
from lorank.lowrank.forms.form import Factors, Form
from lorank.lowrank.linalg import SVD, top_k_svd, working_dtype


def fold_scale(factors: Factors) -> Factors:
    """Return the same update with the scale multiplied into B.

    >>> fold_scale(Factors(torch.ones(1, 2), torch.ones(2, 1), 3.0)).B.flatten().tolist()
    [3.0, 3.0]
    """
    return factors if factors.scaling == 1.0 else Factors(factors.A, factors.scaling * factors.B, 1.0)


def scale(factors: Factors, weight: float) -> Factors:
    """Return ``weight`` times the update.

    >>> scale(Factors(torch.ones(1, 2), torch.ones(2, 1), 3.0), 0.5).scaling
    1.5
    """
    return Factors(factors.A, factors.B, weight * factors.scaling)


def add(*terms: Factors) -> Factors:
    """Return the sum of the updates, exactly: the ranks add up.

    >>> one = Factors(torch.ones(1, 3), torch.ones(2, 1), 2.0)
    >>> total = add(one, scale(one, -1.0)); total.A.shape[0], dense_update(total).abs().max().item()
    (2, 0.0)
    """
    if not terms:
        raise UsageError("a sum of no updates has no shape; give one at least")
    pairs = [fold_scale(term) for term in terms]
    shapes = {(pair.B.shape[0], pair.A.shape[1]) for pair in pairs}
    if len(shapes) > 1:
        raise UsageError(f"updates of shapes {sorted(shapes)} cannot be added; they belong to different weights")
    return Factors(torch.cat([pair.A for pair in pairs]), torch.cat([pair.B for pair in pairs], dim=1), 1.0)


def dense_update(factors: Factors) -> Tensor:
    """Return dW [out, in]."""
    return factors.scaling * (factors.B @ factors.A)


def inner(one: Factors, other: Factors) -> float:
    """Return <dW1, dW2>, the sum of products of entries; ``inner(f, f)`` is the squared Frobenius norm.

    >>> one = Factors(torch.tensor([[3.0, 4.0]]), torch.ones(1, 1), 1.0); inner(one, one)
    25.0
    """
    left = other.B.double().t() @ one.B.double()
    right = one.A.double() @ other.A.double().t()
    return one.scaling * other.scaling * (left * right.t()).sum().item()


def decompose(factors: Factors) -> SVD:
    """Return the singular value decomposition of dW, at most min(k, out, in) triplets, signs as ``top_k_svd``.

    >>> decompose(Factors(torch.tensor([[0.0, 2.0]]), torch.tensor([[3.0], [0.0]]), 0.5)).s.tolist()
    [3.0]
    """
    A, B, s = factors
    Q_B, R_B = torch.linalg.qr(B.double())
    Q_A, R_A = torch.linalg.qr(A.double().t())
    U, sigma, Vh = top_k_svd(s * (R_B @ R_A.t()), A.shape[0])
    dtype = working_dtype(A)
    return SVD((Q_B @ U).to(dtype), sigma.to(dtype), (Vh @ Q_A.t()).to(dtype))


def truncate(factors: Factors, rank: int | None = None, energy: float | None = None) -> Factors:
    """Return the best approximation of dW of at most ``rank``, or of the least rank that keeps ``energy``.

    Args:
        factors: the update.
        rank: from 0 up; None leaves it to ``energy``.
        energy: the share of the squared Frobenius norm to keep, in (0, 1]; None leaves it to ``rank``.

    Returns:
        A = sqrt(sigma) V^T, B = U sqrt(sigma), scale 1.
    """
    return cut(decompose(factors), rank, energy)


def cut(svd: SVD, rank: int | None, energy: float | None) -> Factors:
    """Return the leading triplets as balanced factors; see ``truncate``."""
    if rank is not None and rank < 0:
        raise UsageError(f"rank {rank} is negative; write an integer from 0 up")
    if energy is not None and not 0 < energy <= 1:
        raise UsageError(f"energy {energy!r} is not in (0, 1]")
    U, s, Vh = svd
    kept = len(s) if rank is None else min(rank, len(s))
    if energy is not None:
        kept = min(kept, rank_of_energy(s, energy))
    root = s[:kept].sqrt()
    return Factors(root[:, None] * Vh[:kept], U[:, :kept] * root, 1.0)


def rank_of_energy(s: Tensor, energy: float) -> int:
    """Return the least k whose leading values hold ``energy`` of the sum of squares of ``s`` (descending).

    >>> rank_of_energy(torch.tensor([3.0, 4.0**0.5, 0.0]), 0.69)
    1
    """
    squares = s.double().square()
    total = squares.sum()
    if not total > 0:
        return 0
    return int((squares.cumsum(0) < energy * total * (1 - 1e-12)).sum()) + 1


def plain_lora(form: Form, weight: Tensor, rank: int | None = None, energy: float | None = None) -> Factors | None:
    """Return ``form``'s update as factors: exact where it is a LoRA of few enough ranks, else cut off by SVD.

    Args:
        form: any form.
        weight: the frozen W [out, in] under it.
        rank: the highest rank allowed; None allows any.
        energy: the share of the squared norm to keep, in (0, 1].

    Returns:
        None where the form is no LoRA and neither ``rank`` nor ``energy`` says where to cut.
    """
    exact = form.as_lora()
    if exact is not None:
        enough = energy is None and (rank is None or exact.A.shape[0] <= rank)
        return exact if enough else truncate(exact, rank, energy)
    if rank is None and energy is None:
        return None
    delta = form.delta(weight)
    return cut(top_k_svd(delta, min(delta.shape)), rank, energy)


def total(terms: Sequence[Factors], weights: Sequence[float]) -> Factors:
    """Return the weighted sum of the updates.

    >>> one = Factors(torch.ones(1, 3), torch.ones(2, 1), 2.0)
    >>> dense_update(total([one, one], [1.0, -0.5]))[0].tolist()
    [1.0, 1.0, 1.0]
    """
    return add(*(scale(term, weight) for term, weight in zip(terms, weights, strict=True)))
