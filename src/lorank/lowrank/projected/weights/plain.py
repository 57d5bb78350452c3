r"""How a step enters a weight: W <- W - lr D, and the base of all other ways.

Weights in bfloat16 lose steps below half of their last bit. With ``rounding = "stochastic"`` the sum is rounded up with
the probability of what lies above the lower neighbour, so that the mean of many roundings is the sum itself.
"""

import torch
from torch import Tensor

from lorank.errors import UsageError
from lorank.lowrank.projected.inner.inner import Group
from lorank.lowrank.projected.projection import Projection
from lorank.lowrank.projected.projectors.projector import State
from lorank.lowrank.projected.registry import entry


class PlainWeight:
    """The weight itself."""

    def gradient(self, state: State, weight: Tensor, gradient: Tensor) -> Tensor:
        """Return the gradient [rows, columns] of what is stepped in place of the weight."""
        return gradient

    def apply(
        self,
        state: State,
        weight: Tensor,
        update: Tensor,
        group: Group,
        options: Projection,
        generator: torch.Generator | None,
    ) -> None:
        """Move ``weight`` [rows, columns] by -lr ``update``; a ``generator`` is there where rounding is stochastic."""
        if generator is None:
            weight.add_(update.to(weight.dtype), alpha=-group["lr"])
        else:
            weight.copy_(round_to_bfloat16(weight.float().sub_(update, alpha=group["lr"]), generator))


def round_to_bfloat16(values: Tensor, generator: torch.Generator) -> Tensor:
    """Return float32 ``values`` in bfloat16, rounded up or down at random with the mean of ``values``."""
    noise = torch.randint(1 << 16, values.shape, generator=generator, dtype=torch.int32, device=values.device)
    bits = (values.contiguous().view(torch.int32) + noise) & -65536
    return bits.view(torch.float32).bfloat16()


def check_rounding(weight: Tensor, options: Projection) -> None:
    """Raise UsageError where ``options`` ask for a rounding that the weight's dtype does not need."""
    if options.rounding == "stochastic" and weight.dtype is torch.float16:
        raise UsageError("stochastic rounding is for weights in bfloat16, and these are in float16; leave it out")


WEIGHTS: dict[str, type[PlainWeight]] = {}
"""Every way under its name."""

entry(WEIGHTS, "plain")(PlainWeight)
