r"""Selective LoRA: an indicator a layer decides whether its update is there at all.

    y = W x + I(s_l > tau) s B diag(g) A x      dL/dI_l = sum_i g_i dL/dg_i  (straight-through, also where I_l = 0)
    s_l <- s_l - eta (d_l + lambda),   d = running mean of dL/dI over its root mean square over layers

A layer whose update helps has a negative derivative and keeps its score up; the sparsity lambda pulls all scores down.
At the last event the indicators are fixed; where more than ``total`` ranks are then on, the layers of highest score
stay. Layers that are off vanish from the saved adapter.

Bafghi et al., Fine Tuning without Catastrophic Forgetting via Selective Low Rank Adaptation, 2025, arXiv:2501.15377.

*Deviations*: scores step by the normalised rule above, with a rate of their own, not by the run's optimizer; so
lambda is in units of the root mean square derivative.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from lorank.catalogue import catalogued
from lorank.lowrank.budgets.core.budget import Budget, Timetable, dynamic_budget, gated_options
from lorank.lowrank.budgets.core.layer_gates import fill_best, steepness, switch_to
from lorank.lowrank.forms.gated import Gated


@dynamic_budget("selective-lora-indicator")
@catalogued(
    "selective-lora-indicator",
    area="adapters.rank",
    title="Fine Tuning without Catastrophic Forgetting via Selective Low Rank Adaptation",
)
class SelectiveIndicator(Budget):
    """Switches whole layers.

    Args:
        forms: gated forms.
        total: the most ranks at the end.
        timetable: its warm-up holds the indicators on, its last event fixes them.
        seed: unused, nothing is drawn.
        sparsity: lambda.
        threshold: tau.
        start: every s_l at first; above tau.
        rate: eta.
        beta: weight of the past in d.
    """

    lr = 0.001
    form_options = gated_options(capacity=1.0, gates="one")
    exact = False
    growth_change = None

    def __init__(
        self,
        forms: Mapping[str, Gated],
        total: int,
        timetable: Timetable,
        *,
        seed: int = 0,
        sparsity: float = 0.3,
        threshold: float = 0.0,
        start: float = 0.5,
        rate: float = 0.05,
        beta: float = 0.9,
    ) -> None:
        super().__init__(forms, total, timetable, seed=seed)
        self.sparsity, self.threshold, self.rate, self.beta = sparsity, threshold, rate, beta
        self.paths = list(self.forms)
        self.scores = torch.full((len(self.paths),), start)
        self.slope = torch.zeros(len(self.paths))

    def active_fraction(self) -> float:
        """Return the share of layers that are on."""
        return sum(rank > 0 for rank in self.ranks().values()) / max(1, len(self.paths))

    def planned_total(self, step: int, steps: int) -> int:
        ended = step >= self.timetable.bounds(steps)[1]
        return self.total if ended else sum(form.components for form in self.forms.values())

    def before_step(self, step: int, steps: int) -> None:
        for form in self.forms.values():
            form.through = step < self.timetable.bounds(steps)[1]

    @torch.no_grad()
    def after_backward(self, step: int, steps: int) -> None:
        now = [(form.gate * form.gate.grad).sum() for form in self.forms.values()]
        if now:
            self.slope.lerp_(torch.stack(now).to(self.slope), 1 - self.beta)

    def after_step(self, step: int, steps: int) -> bool:
        first, last = self.timetable.bounds(steps)
        if not first < step <= last:
            return False
        self.scores -= self.rate * (steepness(self.slope) + self.sparsity)
        on = self.scores > self.threshold
        ranks = {path: form.components * int(on[k]) for k, (path, form) in enumerate(self.forms.items())}
        if step == last and sum(ranks.values()) > self.total:
            scores = dict(zip(self.paths, self.scores.tolist(), strict=True))
            ranks = fill_best(scores, self.forms, self.total)
        before = self.ranks()
        switch_to(self.forms, ranks)
        return ranks != before or step == last

    def event(self, step: int, steps: int) -> None:
        """Do nothing: the indicators follow the scores at every step."""

    def state(self) -> dict[str, Tensor]:
        return {"scores": self.scores, "slope": self.slope}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.scores.copy_(state["scores"])
        self.slope.copy_(state["slope"])
