"""No projection: P = I, so that R is G itself; for methods that only change the inner rule or the weight."""

from collections.abc import Mapping

import torch
from torch import Tensor

from lorank.lowrank.projected.projectors.projector import PROJECTORS, Projector
from lorank.lowrank.projected.registry import entry


@entry(PROJECTORS, "identity")
class Identity(Projector):
    """All of the gradient.

    Kept: ``0`` values.
    """

    whole = True

    def find(self, gradient: Tensor, rank: int, generator: torch.Generator) -> dict[str, Tensor]:
        return {}

    def basis(self, state: Mapping[str, Tensor], gradient: Tensor) -> Tensor:
        return torch.eye(len(gradient), dtype=gradient.dtype, device=gradient.device)

    def down(self, state: Mapping[str, Tensor], gradient: Tensor) -> Tensor:
        return gradient

    def up(self, state: Mapping[str, Tensor], reduced: Tensor, gradient: Tensor) -> Tensor:
        return reduced.clone()
