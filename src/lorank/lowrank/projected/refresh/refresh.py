"""When a matrix's projector is found anew: a count of steps in the parameter's state, which runs down to 0."""

import torch
from torch import Tensor

from lorank.lowrank.projected.projection import Projection
from lorank.lowrank.projected.projectors.projector import State
from lorank.lowrank.projected.registry import entry


class Refresh:
    """Every ``gap`` steps of the matrix."""

    compares = False
    """Whether ``plan_next`` reads the bases."""

    def due(self, state: State) -> bool:
        """Return whether the next step begins with a new projector."""
        return int(state["wait"]) == 0

    def plan_next(self, state: State, options: Projection, new: Tensor | None, old: Tensor | None) -> None:
        """Set the steps until the next refresh; ``new`` and ``old`` are the bases where ``compares`` says so."""
        state["wait"] = torch.tensor(options.gap)


REFRESHES: dict[str, type[Refresh]] = {}
"""Every refresh policy under its name."""

entry(REFRESHES, "fixed")(Refresh)
