r"""LoRA^2: two updates in mutually orthogonal planes, pruned by a score a singular value.

    dW = s (B1 diag(g1) A1 + B2 diag(g2) A2),   B1^T B2 = 0,  A1 A2^T = 0     score_i = running mean of |g_i dL/dg_i|

The first half of a form's components is plane 1, the second plane 2. After every step plane 2 is projected off plane
1. Each plane is kept near orthonormal by AdaLoRA's penalty. A component has one score in place of AdaLoRA's
in + out + 1, and components are pruned by it on the cubic schedule.

Zhang et al., LoRA^2: Multi-Scale Low-Rank Approximations for Fine-Tuning Large Language Models, 2024,
arXiv:2408.06854.

*Deviations*: [~] the paper asks for orthogonal planes by a penalty; here the projection makes them orthogonal to
rounding. The score is that of the singular value itself.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from lorank.catalogue import catalogued
from lorank.lowrank.budgets.core.budget import Timetable, dynamic_budget, gated_options
from lorank.lowrank.budgets.core.orthogonality import orthogonality
from lorank.lowrank.budgets.core.pruning import Pruning
from lorank.lowrank.forms.gated import Gated


@dynamic_budget("lora-squared")
@catalogued(
    "lora-squared",
    area="adapters.rank",
    title="LoRA^2 : Multi-Scale Low-Rank Approximations for Fine-Tuning Large Language Models",
)
class LoRASquared(Pruning):
    """Prunes two orthogonal planes by the sensitivity of their singular values.

    Args:
        forms: gated forms with more components than ``total``.
        total: ranks at the end.
        timetable: events.
        seed: unused, nothing is drawn.
        beta: weight of the past in the scores.
        orthogonal: weight of the penalty.
    """

    lr = 0.01
    form_options = gated_options(capacity=1.5, gates="zero")

    def __init__(
        self,
        forms: Mapping[str, Gated],
        total: int,
        timetable: Timetable,
        *,
        seed: int = 0,
        beta: float = 0.85,
        orthogonal: float = 0.5,
    ) -> None:
        super().__init__(forms, total, timetable, seed=seed)
        self.beta, self.orthogonal = beta, orthogonal
        self.scores = {path: form.mask.new_zeros(form.components) for path, form in self.forms.items()}
        self.separate()

    @property
    def scores_a_step(self) -> int:
        """How many importance scores a step computes: one a component."""
        return sum(len(score) for score in self.scores.values())

    def penalty(self, step: int, steps: int) -> Tensor | None:
        return self.orthogonal * orthogonality(self.forms.values()) if self.orthogonal else None

    @torch.no_grad()
    def after_backward(self, step: int, steps: int) -> None:
        for path, form in self.forms.items():
            self.scores[path].lerp_((form.gate * form.gate.grad).abs(), 1 - self.beta)

    def after_step(self, step: int, steps: int) -> bool:
        self.separate()
        return super().after_step(step, steps)

    @torch.no_grad()
    def separate(self) -> None:
        """Project plane 2 of every layer off its plane 1; layers of one shape are taken together."""
        groups: dict[tuple[int, ...], list[Tensor]] = {}
        for form in self.forms.values():
            for factor in (form.A, form.B.t()):
                groups.setdefault(tuple(factor.shape), []).append(factor)
        for (count, _), group in groups.items():
            half = (count + 1) // 2
            first, second = torch.stack([factor[:half] for factor in group]), torch.stack([f[half:] for f in group])
            Q = torch.linalg.qr(first.transpose(1, 2)).Q
            for _ in range(2):  # twice is enough for rounding
                second = second - (second @ Q) @ Q.transpose(1, 2)
            for factor, rows in zip(group, second, strict=True):
                factor[half:].copy_(rows)

    def importance(self) -> dict[str, Tensor]:
        return {path: torch.where(form.on, self.scores[path], -1.0) for path, form in self.forms.items()}

    def state(self) -> dict[str, Tensor]:
        return {f"{path}.score": score for path, score in self.scores.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        for path, score in self.scores.items():
            score.copy_(state[f"{path}.score"])
