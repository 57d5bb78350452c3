r"""A Gaussian matrix: P = Z / sqrt(r), Z [short, r] of independent N(0, 1), so that E[P P^T] = I.

Only a seed is kept, and P is drawn anew at each step.

Hao, Cao, Mou, Flora: Low-Rank Adapters Are Secretly Gradient Compressors, ICML 2024, arXiv:2402.03293; APOLLO
projects likewise (arXiv:2412.05270).
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from lorank.lowrank.projected.projectors.projector import PROJECTORS, Projector
from lorank.lowrank.projected.registry import entry


@entry(PROJECTORS, "random")
class Gaussian(Projector):
    """P drawn from a seed.

    Kept: ``2`` integers, the seed and the rank.
    """

    def find(self, gradient: Tensor, rank: int, generator: torch.Generator) -> dict[str, Tensor]:
        return {"seed": torch.randint(2**62, (), generator=generator), "width": torch.tensor(rank)}

    def basis(self, state: Mapping[str, Tensor], gradient: Tensor) -> Tensor:
        rank = int(state["width"])
        generator = torch.Generator().manual_seed(int(state["seed"]))
        drawn = torch.randn(gradient.shape[0], rank, generator=generator, dtype=gradient.dtype)
        return drawn.div_(max(rank, 1) ** 0.5).to(gradient.device)
