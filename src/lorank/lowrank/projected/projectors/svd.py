r"""The leading left singular vectors of the gradient: P = U_r of G = U S V^T.

P P^T G is then the best approximation of G at that rank (Eckart and Young). ``svd`` is exact, ``randomised`` is the
range finder of Halko, Martinsson and Tropp (2011, arXiv:0909.4061) with a seed of its own for each matrix and refresh.

Zhao et al., GaLore: Memory-Efficient LLM Training by Gradient Low-Rank Projection, 2024, arXiv:2403.03507.
"""

import torch
from torch import Tensor

from lorank.lowrank.linalg import top_k_svd
from lorank.lowrank.projected.projectors.projector import PROJECTORS, Projector
from lorank.lowrank.projected.registry import entry


@entry(PROJECTORS, "svd")
class ExactSVD(Projector):
    """P by the whole singular value decomposition.

    Kept: ``short * rank`` values.
    """

    method = "exact"

    def find(self, gradient: Tensor, rank: int, generator: torch.Generator) -> dict[str, Tensor]:
        return {"basis": top_k_svd(gradient, rank, method=self.method, generator=generator).U.contiguous()}


@entry(PROJECTORS, "randomised")
class RandomisedSVD(ExactSVD):
    """P by the randomised singular value decomposition.

    Kept: ``short * rank`` values.
    """

    method = "randomised"
