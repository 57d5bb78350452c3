r"""Coordinates of the shorter side: P = I[:, idx], so that R is r rows of G, drawn at random or by their norm.

Zmushko et al., FRUGAL: Memory-Efficient Optimization by Reducing State Overhead for Scalable Training, 2024,
arXiv:2411.07837.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from lorank.lowrank.projected.projectors.projector import PROJECTORS, Projector
from lorank.lowrank.projected.registry import entry


@entry(PROJECTORS, "coordinates")
class RandomCoordinates(Projector):
    """Rows drawn at random.

    Kept: ``rank`` integers.
    """

    def find(self, gradient: Tensor, rank: int, generator: torch.Generator) -> dict[str, Tensor]:
        chosen = torch.randperm(len(gradient), generator=generator)[:rank]
        return {"indices": chosen.sort().values.to(device=gradient.device, dtype=torch.int32)}

    def basis(self, state: Mapping[str, Tensor], gradient: Tensor) -> Tensor:
        return torch.eye(len(gradient), dtype=gradient.dtype, device=gradient.device)[:, state["indices"].long()]

    def down(self, state: Mapping[str, Tensor], gradient: Tensor) -> Tensor:
        return gradient[state["indices"].long()]

    def up(self, state: Mapping[str, Tensor], reduced: Tensor, gradient: Tensor) -> Tensor:
        return torch.zeros_like(gradient).index_copy_(0, state["indices"].long(), reduced)


@entry(PROJECTORS, "largest-coordinates")
class LargestCoordinates(RandomCoordinates):
    """The rows of the largest norm.

    Kept: ``rank`` integers.
    """

    def find(self, gradient: Tensor, rank: int, generator: torch.Generator) -> dict[str, Tensor]:
        chosen = torch.sort(gradient.norm(dim=1), descending=True, stable=True).indices[:rank]
        return {"indices": chosen.sort().values.to(torch.int32)}
