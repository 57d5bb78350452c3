r"""AltLoRA: one factor a step, each by the best approximation of the full gradient that it can make alone.

    even steps:  B <- B - eta M_B,   M_B <- beta M_B + (1 - beta) (dL/dB) (A A^T)^-1 / s^2
    odd steps:   A <- A - eta M_A,   M_A <- beta M_A + (1 - beta) (B^T B)^-1 (dL/dA) / s^2

(dL/dB) (A A^T)^-1 / s^2 is the D with s D A nearest to G = dL/dW. A factor's momentum stands for a momentum of W
and follows when the other factor moves: M_B <- M_B A_old A^T (A A^T)^-1, M_A <- (B^T B)^-1 B^T B_old M_A. The
path of B A does not depend on how B A is split into factors.

B steps first: at B = 0 there is nothing for A to do. Steps are of gradient descent's size, not Adam's: the rate
is to be swept accordingly.

Yu, Wang, Yin, Cheng, Ying, AltLoRA: Towards Better Gradient Approximation in Low-Rank Adaptation with
Alternating Projections, 2025, arXiv:2505.12455.

*Deviations*: the ridge is ``damping`` times the mean diagonal, so that scaling a factor does not change it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lorank.catalogue import catalogued
from lorank.lowrank.adapter import Adapter
from lorank.lowrank.linalg import damped_inverse, gram
from lorank.lowrank.rules.factor_optimizer import FactorOptimizer, Group, decay
from lorank.lowrank.rules.rule import Groups, Pair, Rates, Rule, needed_pairs, rule


class AltLoRAOptimizer(FactorOptimizer):
    """One factor a step; the first of ``betas`` is the momentum's."""

    def __init__(self, groups: Groups, pairs: Sequence[Pair], rates: Rates, damping: float) -> None:
        super().__init__(groups, pairs, rates)
        self.damping = damping

    def step_pair(self, pair: Pair, group: Group) -> None:
        A, B, beta = pair.A, pair.B, group["betas"][0]
        grad_A, grad_B = pair.gradients()
        a, b = self.state[A], self.state[B]
        if not a:
            a["step"], a["momentum"], b["momentum"] = torch.zeros(()), torch.zeros_like(A), torch.zeros_like(B)
        if int(a["step"]) % 2 == 0:
            inverse = damped_inverse(gram(A), self.damping).to(A)
            b["momentum"].lerp_(grad_B @ inverse / pair.scaling**2, 1 - beta)
            old = B.clone()
            decay(B, group)
            B.sub_(b["momentum"], alpha=group["lr"])
            back = damped_inverse(gram(B.t()), self.damping).to(B)
            a["momentum"].copy_(back @ ((B.t() @ old) @ a["momentum"]))
        else:
            inverse = damped_inverse(gram(B.t()), self.damping).to(B)
            a["momentum"].lerp_(inverse @ grad_A / pair.scaling**2, 1 - beta)
            old = A.clone()
            decay(A, group)
            A.sub_(a["momentum"], alpha=group["lr"])
            back = damped_inverse(gram(A), self.damping).to(A)
            b["momentum"].copy_((b["momentum"] @ (old @ A.t())) @ back)
        a["step"] += 1


@rule("altlora")
@catalogued(
    "altlora",
    area="adapters.optim",
    title="AltLoRA: Towards Better Gradient Approximation in Low-Rank Adaptation with Alternating Projections",
)
@dataclass
class AltLoRA(Rule):
    """Alternating projected steps with momentum.

    State: ``r * (out + width)`` values a pair.
    """

    lr = 0.02
    damping: float = 1e-6

    def optimizer(self, groups: Groups, adapter: Adapter, rates: Rates) -> torch.optim.Optimizer:
        return AltLoRAOptimizer(groups, needed_pairs(adapter, "altlora"), rates, self.damping)
