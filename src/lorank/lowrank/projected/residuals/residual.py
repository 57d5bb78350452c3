r"""The contract of residual rules: what is stepped along, from G, its projection R and the direction N of R.

The base leaves the rest out: D = scale * P N. With N = R this is gradient descent on P P^T G.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from lorank.lowrank.projected.inner.inner import Group
from lorank.lowrank.projected.projection import Projection
from lorank.lowrank.projected.projectors.projector import State
from lorank.lowrank.projected.registry import entry


@dataclass(frozen=True)
class Parts:
    """One matrix at one step: G [short, long], R and N [rank, long], and the way ``up`` from R to P R."""

    gradient: Tensor
    reduced: Tensor
    direction: Tensor
    up: Callable[[Tensor], Tensor]


class Residual:
    """Nothing of the rest.

    State: ``0`` values a matrix.
    """

    def combine(self, state: State, parts: Parts, group: Group, options: Projection) -> Tensor:
        """Return D [short, long]; the weight moves by -lr D."""
        return parts.up(parts.direction * options.scale)


RESIDUALS: dict[str, type[Residual]] = {}
"""Every residual rule under its name."""

entry(RESIDUALS, "none")(Residual)
