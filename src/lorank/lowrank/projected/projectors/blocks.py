r"""Whole matrices in turn: P = I for a share of the matrices, and P is empty for all others.

A matrix is drawn with probability rank / short at each refresh, so that as many values of state are kept on average as
by a projector of that rank. Moments must be reset, for their shape changes.

Zmushko et al., FRUGAL: Memory-Efficient Optimization by Reducing State Overhead for Scalable Training, 2024,
arXiv:2411.07837 (blockwise selection, which BAdam makes too).

*Deviations*: each matrix is drawn for itself; the published code goes through the blocks in an order.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from lorank.lowrank.projected.projectors.projector import PROJECTORS, Projector
from lorank.lowrank.projected.registry import entry


@entry(PROJECTORS, "blocks")
class Blocks(Projector):
    """All of a matrix or nothing.

    Kept: ``1`` value, whether all of it is taken.
    """

    def find(self, gradient: Tensor, rank: int, generator: torch.Generator) -> dict[str, Tensor]:
        return {"taken": torch.rand(1, generator=generator, dtype=torch.float64) < rank / max(len(gradient), 1)}

    def basis(self, state: Mapping[str, Tensor], gradient: Tensor) -> Tensor:
        whole = torch.eye(len(gradient), dtype=gradient.dtype, device=gradient.device)
        return whole[:, : self._rows(state, gradient)]

    def down(self, state: Mapping[str, Tensor], gradient: Tensor) -> Tensor:
        return gradient[: self._rows(state, gradient)]

    def up(self, state: Mapping[str, Tensor], reduced: Tensor, gradient: Tensor) -> Tensor:
        return reduced.clone() if len(reduced) else torch.zeros_like(gradient)

    def _rows(self, state: Mapping[str, Tensor], gradient: Tensor) -> int:
        return len(gradient) if bool(state["taken"]) else 0
