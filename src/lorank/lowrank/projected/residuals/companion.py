r"""A LoRA beside the projected step, on the same weight and in the same subspace.

    D = scale P N - (L' Q' - L Q) / lr,   L' = L - lr rate P adam(P^T G Q^T),   Q' = Q - lr rate adam(L^T G)

The weight holds W + L Q at all times, so that G is the gradient of the sum, and those of the factors L [short, r] and
Q [r, long] follow from it by the chain rule. L starts along the leading columns of P, as long as the rows of a LoRA's A
are, and Q at 0. L stays in the span of the bases P: what they are orthogonal to, the LoRA's update is orthogonal to as
well.

Wang et al., Continual Gradient Low-Rank Projection Fine-Tuning for LLMs (GORP), 2025, arXiv:2507.02503.

*Deviations* [~]: no code was released; the start of L is ours. The factors are in the weight from the first step, so
that what is trained is saved as one matrix.
"""

import torch
from torch import Tensor

from lorank.lowrank.projected.inner.inner import Group
from lorank.lowrank.projected.projection import Projection
from lorank.lowrank.projected.projectors.projector import State
from lorank.lowrank.projected.registry import entry
from lorank.lowrank.projected.residuals.residual import RESIDUALS, Parts, Residual


@entry(RESIDUALS, "companion")
class Companion(Residual):
    """A LoRA of rank ``companion``, whose factors step ``rest_rate`` times as fast as the subspace.

    State: ``companion * (short + 3 * long) + 2 * companion * rank`` values a matrix.
    """

    def combine(self, state: State, parts: Parts, group: Group, options: Projection) -> Tensor:
        step = super().combine(state, parts, group, options)
        if "left" not in state:
            self._start(state, parts, options.companion)
        rate, left, right = group["lr"] * options.rest_rate, state["left"], state["right"]
        if not rate > 0 or not left.shape[1]:
            return step
        state["factors"] = state.get("factors", torch.zeros(())) + 1
        before = left @ right
        along = _adam(state, "left", parts.reduced @ right.t(), group)
        across = _adam(state, "right", left.t() @ parts.gradient, group)
        left.sub_(_widen(parts, along), alpha=rate)
        right.sub_(across, alpha=rate)
        moved: Tensor = step - (left @ right - before) / group["lr"]
        return moved

    def _start(self, state: State, parts: Parts, rank: int) -> None:
        columns = min(rank, len(parts.reduced), parts.gradient.shape[1])
        first = torch.eye(len(parts.reduced), columns, dtype=parts.gradient.dtype, device=parts.gradient.device)
        state["left"] = (_widen(parts, first) / 3**0.5).contiguous()
        state["right"] = parts.gradient.new_zeros(columns, parts.gradient.shape[1])


def _widen(parts: Parts, small: Tensor) -> Tensor:
    """Return P ``small`` [short, r] of ``small`` [rank, r], by the way that takes as many columns as G has."""
    padded = small.new_zeros(len(small), parts.gradient.shape[1])
    padded[:, : small.shape[1]] = small
    return parts.up(padded)[:, : small.shape[1]]


def _adam(state: State, name: str, slope: Tensor, group: Group) -> Tensor:
    """Return Adam's direction of a factor's gradient, whose moments are kept beside the factor."""
    b1, b2 = group["betas"]
    first, second = f"{name}_first", f"{name}_second"
    if first not in state or state[first].shape != slope.shape:
        state[first], state[second] = torch.zeros_like(slope), torch.zeros_like(slope)
    state[first].lerp_(slope, 1 - b1)
    state[second].mul_(b2).addcmul_(slope, slope, value=1 - b2)
    count = float(state["factors"])
    root = (state[second] / (1 - b2**count)).sqrt_().add_(group["eps"])
    direction: Tensor = state[first] / (1 - b1**count) / root
    return direction
