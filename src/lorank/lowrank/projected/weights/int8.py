r"""Weights on a grid of 8 bits: after a step each is rounded to a neighbour on the grid, up with the right probability.

    W' = s (q + z),  q in 0..255,  s = (max - min) / 255 of 256 neighbours;   E[W'] = W - lr D

Plain rounding would lose every step below s / 2; the mean of random roundings loses none.

Zhang et al., Q-GaLore: Quantized GaLore with INT4 Projection and Layer-Adaptive Low-Rank Gradients, 2024,
arXiv:2407.08296.

*Deviations*: the weights stay in their tensor's dtype and take values that 8 bits hold (the published code's
simulation); `lorank.lowrank.quantise` stores a trained model in 8 bits.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from lorank.lowrank.projected.inner.inner import Group
from lorank.lowrank.projected.projection import Projection
from lorank.lowrank.projected.projectors.projector import State
from lorank.lowrank.projected.registry import entry
from lorank.lowrank.projected.weights.plain import WEIGHTS, PlainWeight

GROUP = 256


def round_to_int8(values: Tensor, generator: torch.Generator) -> Tensor:
    """Return ``values`` on the grid of each group of 256, rounded at random with the mean of ``values``."""
    flat = values.flatten()
    groups = pad(flat[None], (0, -len(flat) % GROUP), mode="replicate")[0].view(-1, GROUP)
    lowest = groups.amin(1, keepdim=True)
    step = ((groups.amax(1, keepdim=True) - lowest) / 255).clamp_min(torch.finfo(values.dtype).tiny)
    noise = torch.rand(groups.shape, generator=generator, dtype=values.dtype, device=values.device)
    codes = ((groups - lowest) / step + noise).floor().clamp(0, 255)
    return (lowest + step * codes).flatten()[: len(flat)].view(values.shape)


@entry(WEIGHTS, "int8")
class EightBitWeight(PlainWeight):
    """Weights that 8 bits hold."""

    def apply(
        self,
        state: State,
        weight: Tensor,
        update: Tensor,
        group: Group,
        options: Projection,
        generator: torch.Generator | None,
    ) -> None:
        assert generator is not None
        moved = weight.to(update.dtype).sub(update, alpha=group["lr"])
        weight.copy_(round_to_int8(moved, generator))
