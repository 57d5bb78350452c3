r"""EoRA: the rank-r product whose output is nearest to the layer's on what the layer reads.

    minimise |(W - B A) X|_F,   X X^T = L L^T,   W L = U S V^T,   B A = U_r U_r^T W,   error = sum_{i >= r} s_i^2

X [in, n] are the inputs at real tokens. Isotropic inputs (X X^T ~ I) give plain SVD. On a grid (``grid="fp4"``, ...) W
is the rounding error W - Q(W), which the product compensates, as published.

Liu et al., EoRA: Training-free Compensation for Compressed LLM with Eigenspace Low-Rank Approximation, 2024,
arXiv:2410.21271.

*Deviations*: the published form divides by the square roots of the eigenvalues of X X^T and has to clip small ones; B A
= U_r U_r^T W is the same matrix without any division. 1e-8 of the mean variance is added to X X^T, so that directions
that the texts never show come last and a full rank restores W.
"""

import torch
from torch import Tensor

from lorank.lowrank.linalg import top_k_svd
from lorank.lowrank.shrink.core.decomposition import Decomposition, keep_directions
from lorank.lowrank.shrink.core.shrinker import Weight, shrinker

FLOOR = 1e-8


@shrinker(
    "eora",
    title="EoRA: Training-free Compensation for Compressed LLM with Eigenspace Low-Rank Approximation",
    calibrated=True,
)
def eora(weight: Weight) -> Decomposition:
    """Return the directions of the outputs by their energy on the calibration inputs.

    Args:
        weight: The weight, with the moments of its inputs.
    """
    assert weight.moments is not None
    return by_output_energy(weight.matrix, weight.moments.second / weight.moments.count)


def by_output_energy(matrix: Tensor, second: Tensor, mean: Tensor | None = None) -> Decomposition:
    """Return W on the principal directions of W x, for x with a second moment [in, in].

    Args:
        matrix: W [out, in].
        second: E[x x^T] [in, in], or the covariance where ``mean`` is given.
        mean: E[x] [in]; None where the error is not centred.
    """
    floor = FLOOR * second.diagonal().mean().clamp_min(torch.finfo(second.dtype).tiny)
    root = square_root(second + floor * torch.eye(len(second), dtype=second.dtype, device=second.device))
    U, s, _ = top_k_svd(matrix @ root, min(matrix.shape))
    return keep_directions(matrix, U, s.square(), mean)


def square_root(second: Tensor) -> Tensor:
    """Return L [in, k] with L L^T = ``second`` >= 0."""
    values, vectors = torch.linalg.eigh(second)
    root: Tensor = vectors * values.clamp_min(0.0).sqrt()
    return root
