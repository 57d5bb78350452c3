r"""LoRA-Pro: factors step so that s B A moves as the full gradient would, as nearly as it can.

    gA = (B^T B)^-1 (dL/dA) / s^2 + X A
    gB = (I - P_B) (dL/dB) (A A^T)^-1 / s^2 - B X,        P_B = B (B^T B)^-1 B^T
    B^T B X + X A A^T = -(B^T B)^-1 (dL/dA) A^T / s^2

With them s (B gA + gB A) = G - (I - P_B) G (I - P_A) for any X [r, r], the nearest to G = dL/dW that moves of
A and B can make; this X keeps gA, gB nearest to the plain gradients. All solves are in r x r; (I - P_B) Z is
Z - B ((B^T B)^-1 (B^T Z)), never an out x out matrix.

``moments="full"``: Adam's moments are those of the equivalent gradient [out, in], and its step is taken apart by
the same equations. ``moments="factored"``: gA and gB go into AdamW, whose moments have the factors' size.

At B = 0, where a LoRA starts, (B^T B)^-1 stands for 0: A waits for one step. Elsewhere the Gram matrices are
damped by ``damping`` times their mean diagonal, so that s does not enter it.

Wang, Liang, He, Wang, Tan, LoRA-Pro: Are Low-Rank Adapters Properly Optimized?, 2024, arXiv:2407.18242.

*Deviations*: published code damps by 1e-8 absolutely and treats the first step as a special case.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lorank.catalogue import catalogued
from lorank.errors import unknown_name
from lorank.lowrank.adapter import Adapter
from lorank.lowrank.linalg import damped_inverse, gram, solve_sylvester
from lorank.lowrank.rules.factor_optimizer import FactorOptimizer, Group, adam_direction, decay
from lorank.lowrank.rules.rule import Groups, Pair, Rates, Rule, needed_pairs, rule


def closest_moves(
    gradient_A: Tensor, gradient_B: Tensor, A: Tensor, B: Tensor, scaling: float, damping: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Return gA [r, in] and gB [out, r] of the equations above.

    Args:
        gradient_A: The gradient dL/dA [r, in].
        gradient_B: The gradient dL/dB [out, r].
        A: The factor A [r, in].
        B: The factor B [out, r].
        scaling: The scale s of the update, not 0.
        damping: The damping of the Gram matrices relative to their mean diagonals, 0 or more.
    """
    AA, BB = gram(A), gram(B.t())
    inverse_A, inverse_B = damped_inverse(AA, damping).to(A), damped_inverse(BB, damping).to(B)
    moved = inverse_B @ gradient_A / scaling**2
    X = solve_sylvester(BB, AA, (-moved @ A.t()).to(AA)).to(A)
    raw = gradient_B @ inverse_A / scaling**2
    beside = raw - B @ (inverse_B @ (B.t() @ raw))
    return torch.addmm(moved, X, A), torch.addmm(beside, B, X, alpha=-1)


class LoRAProFull(FactorOptimizer):
    """LoRA-Pro with Adam's moments of the equivalent full gradient."""

    def __init__(self, groups: Groups, pairs: Sequence[Pair], rates: Rates, damping: float) -> None:
        super().__init__(groups, pairs, rates)
        self.damping = damping

    def step_pair(self, pair: Pair, group: Group) -> None:
        A, B, s = pair.A, pair.B, pair.scaling
        gA, gB = closest_moves(*pair.gradients(), A, B, s, self.damping)
        direction = adam_direction(s * (B @ gA + gB @ A), self.state[B], group)
        gA, gB = closest_moves(s * (B.t() @ direction), s * (direction @ A.t()), A, B, s, self.damping)
        for factor, move in ((A, gA), (B, gB)):
            decay(factor, group)
            factor.sub_(move, alpha=group["lr"])


class LoRAProFactored(FactorOptimizer):
    """LoRA-Pro's moves fed to Adam."""

    def __init__(self, groups: Groups, pairs: Sequence[Pair], rates: Rates, damping: float) -> None:
        super().__init__(groups, pairs, rates)
        self.damping = damping

    def step_pair(self, pair: Pair, group: Group) -> None:
        moves = closest_moves(*pair.gradients(), pair.A, pair.B, pair.scaling, self.damping)
        for factor, move in zip((pair.A, pair.B), moves, strict=True):
            direction = adam_direction(move, self.state[factor], group)
            decay(factor, group)
            factor.sub_(direction, alpha=group["lr"])


MOMENTS = {"full": LoRAProFull, "factored": LoRAProFactored}


@rule("lora-pro")
@catalogued("lora-pro", area="adapters.optim", title="LoRA-Pro: Are Low-Rank Adapters Properly Optimized?")
@dataclass
class LoRAPro(Rule):
    """LoRA-Pro; ``moments="full"`` costs the memory of full fine-tuning for the adapted weights.

    State: ``2 * out * width`` values a pair with full moments, ``2 * r * (out + width)`` with factored ones.
    """

    lr = 0.0001
    moments: Literal["full", "factored"] = "full"
    damping: float = 1e-6

    def __post_init__(self) -> None:
        if self.moments not in MOMENTS:
            raise unknown_name("kind of moments", self.moments, MOMENTS)

    def optimizer(self, groups: Groups, adapter: Adapter, rates: Rates) -> torch.optim.Optimizer:
        return MOMENTS[self.moments](groups, needed_pairs(adapter, "lora-pro"), rates, self.damping)
