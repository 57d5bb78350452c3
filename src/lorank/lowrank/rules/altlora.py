r"""AltLoRA: one factor a step, each by the best approximation of the full gradient that it can make alone.

    even steps:  B <- B - eta M_B,   M_B <- beta M_B + (1 - beta) (dL/dB) (A A^T)^-1 / s^2
    odd steps:   A <- A - eta M_A,   M_A <- beta M_A + (1 - beta) (B^T B)^-1 (dL/dA) / s^2

(dL/dB) (A A^T)^-1 / s^2 is the D with s D A nearest to G = dL/dW. A factor's momentum stands for a momentum of W
and follows when the other factor moves: M_B <- M_B A_old A^T (A A^T)^-1, M_A <- (B^T B)^-1 B^T B_old M_A. The
path of B A does not depend on how B A is split into factors.

B steps first: at B = 0 there is nothing for A to do. As published, a step is of gradient descent's size, which a
ranker's small gradients make as good as none at any rate that another task bears. By default a step is therefore
counted in units of what it would do to W: with v the running mean of || s D A ||^2 / (out * width),

    B <- B - eta M_B / sqrt(v),      so that a step moves an entry of W by eta, root mean square

and the same for A. v is a number that does not depend on how B A is split, as the path does not.

Yu, Wang, Yin, Cheng, Ying, AltLoRA: Towards Better Gradient Approximation in Low-Rank Adaptation with
Alternating Projections, 2025, arXiv:2505.12455.

*Deviations*: the unit of a step (``unit="gradient"`` is the published one); the ridge is ``damping`` times the mean
diagonal, so that scaling a factor does not change it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.adapter import Adapter
from lorank.lowrank.linalg import damped_inverse, gram
from lorank.lowrank.rules.factor_optimizer import FactorOptimizer, Group, decay
from lorank.lowrank.rules.rule import Groups, Pair, Rates, Rule, needed_pairs, rule


class AltLoRAOptimizer(FactorOptimizer):
    """One factor a step; the first of ``betas`` is the momentum's."""

    def __init__(self, groups: Groups, pairs: Sequence[Pair], rates: Rates, damping: float, unit: str) -> None:
        super().__init__(groups, pairs, rates)
        self.damping, self.unit = damping, unit

    def step_pair(self, pair: Pair, group: Group) -> None:
        A, B, beta = pair.A, pair.B, group["betas"][0]
        grad_A, grad_B = pair.gradients()
        a, b = self.state[A], self.state[B]
        if not a:
            a["step"], a["momentum"], b["momentum"] = torch.zeros(()), torch.zeros_like(A), torch.zeros_like(B)
        if int(a["step"]) % 2 == 0:
            seen = gram(A)
            direction = grad_B @ damped_inverse(seen, self.damping).to(A) / pair.scaling**2
            b["momentum"].lerp_(direction, 1 - beta)
            old = B.clone()
            decay(B, group)
            B.sub_(b["momentum"] * self._rate(b, ((direction @ seen.to(A)) * direction).sum(), pair, group))
            back = damped_inverse(gram(B.t()), self.damping).to(B)
            a["momentum"].copy_(back @ ((B.t() @ old) @ a["momentum"]))
        else:
            seen = gram(B.t())
            direction = damped_inverse(seen, self.damping).to(B) @ grad_A / pair.scaling**2
            a["momentum"].lerp_(direction, 1 - beta)
            old = A.clone()
            decay(A, group)
            A.sub_(a["momentum"] * self._rate(a, ((seen.to(B) @ direction) * direction).sum(), pair, group))
            back = damped_inverse(gram(A), self.damping).to(A)
            b["momentum"].copy_((b["momentum"] @ (old @ A.t())) @ back)
        a["step"] += 1

    def _rate(self, state: dict[str, Any], square: Tensor, pair: Pair, group: Group) -> Tensor | float:
        """Return what the momentum is multiplied with; ``square`` is || D A ||^2 or || B D ||^2 of this step."""
        rate: float = group["lr"]
        if self.unit == "gradient":
            return rate
        beta = group["betas"][1]
        square = pair.scaling**2 * square / (pair.A.shape[1] * pair.B.shape[0])
        state["square"] = state.get("square", torch.zeros_like(square)).lerp(square, 1 - beta)
        steps = int(self.state[pair.A]["step"]) // 2 + 1
        length: Tensor = rate / (state["square"] / (1 - beta**steps)).sqrt().add(group["eps"])
        return length


@rule("altlora")
@catalogued(
    "altlora",
    area="adapters.optim",
    title="AltLoRA: Towards Better Gradient Approximation in Low-Rank Adaptation with Alternating Projections",
)
@dataclass
class AltLoRA(Rule):
    """Alternating projected steps with momentum.

    State: ``r * (out + width) + 2`` values a pair; ``r * (out + width)`` in units of the gradient.

    Args:
        damping: The ridge, as a share of the mean diagonal.
        unit: What a step is counted in: "weight", the root mean square of its change of W, or "gradient" as published.
    """

    lr = 1e-4
    damping: float = 1e-6
    unit: str = "weight"

    def __post_init__(self) -> None:
        if self.unit not in ("weight", "gradient"):
            raise UsageError(f"altlora: unit is 'weight' or 'gradient', not {self.unit!r}")

    def optimizer(self, groups: Groups, adapter: Adapter, rates: Rates) -> torch.optim.Optimizer:
        return AltLoRAOptimizer(groups, needed_pairs(adapter, "altlora"), rates, self.damping, self.unit)
