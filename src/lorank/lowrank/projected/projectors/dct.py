r"""Columns of the discrete cosine transform: P = D[:, idx], chosen by what they capture of the gradient.

    D[t, k] = sqrt((2 - [k = 0]) / n) cos(pi (2 t + 1) k / (2 n)),   D^T D = I,   n = short
    idx = the r columns with the largest ||(D^T G)_k||

D is the same for all matrices of one size, so a matrix keeps r integers, and no decomposition is made.

Modoranu et al., SVD-Free Low-Rank Adaptive Gradient Optimization for Large Language Models, 2025, arXiv:2505.17967.

*Deviations*: the DCT of type 2 (its transpose is type 3), and the l2 norm of the two that are published.
"""

import math
from collections.abc import Mapping
from functools import lru_cache

import torch
from torch import Tensor

from lorank.lowrank.projected.projectors.projector import PROJECTORS, Projector
from lorank.lowrank.projected.registry import entry


@lru_cache(maxsize=16)
def cosine_basis(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return D [size, size], whose columns are orthonormal cosines of rising frequency.

    >>> D = cosine_basis(2, torch.float64, torch.device("cpu"))
    >>> [[round(value, 4) for value in row] for row in D.tolist()]
    [[0.7071, 0.7071], [0.7071, -0.7071]]
    """
    place = torch.arange(size, dtype=torch.float64)
    basis = torch.cos(math.pi / (2 * size) * torch.outer(2 * place + 1, place)) * math.sqrt(2 / size)
    basis[:, 0] /= math.sqrt(2)
    return basis.to(device=device, dtype=dtype)


@entry(PROJECTORS, "dct")
class CosineColumns(Projector):
    """The cosines that capture most of the gradient.

    Kept: ``rank`` integers.
    """

    def find(self, gradient: Tensor, rank: int, generator: torch.Generator) -> dict[str, Tensor]:
        captured = (cosine_basis(len(gradient), gradient.dtype, gradient.device).t() @ gradient).norm(dim=1)
        chosen = torch.sort(captured, descending=True, stable=True).indices[:rank]
        return {"indices": chosen.to(torch.int32)}

    def basis(self, state: Mapping[str, Tensor], gradient: Tensor) -> Tensor:
        return cosine_basis(len(gradient), gradient.dtype, gradient.device)[:, state["indices"].long()]
