r"""A uniformly random orthonormal frame: P = Q of the QR decomposition of a Gaussian [short, r].

With the signs of R's diagonal put into Q it is uniform on the Stiefel manifold. It reads nothing of the gradient, which
is what late training needs where noise has taken over the gradient's leading directions.

He, Li, Hu, Chen, Yuan, Subspace Optimization for Large Language Models with Convergence Guarantees (GoLore), 2024,
arXiv:2410.11289.
"""

import torch
from torch import Tensor

from lorank.lowrank.projected.projectors.projector import PROJECTORS, Projector
from lorank.lowrank.projected.registry import entry


@entry(PROJECTORS, "stiefel")
class Stiefel(Projector):
    """A random frame.

    Kept: ``short * rank`` values.
    """

    def find(self, gradient: Tensor, rank: int, generator: torch.Generator) -> dict[str, Tensor]:
        drawn = torch.randn(gradient.shape[0], rank, generator=generator, dtype=gradient.dtype)
        Q, R = torch.linalg.qr(drawn)
        return {"basis": (Q * torch.where(R.diagonal() < 0, -1.0, 1.0).to(Q.dtype)).to(gradient.device)}
