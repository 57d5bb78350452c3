r"""SoRA: gates that a proximal step drives to exactly 0.

    dW = s B diag(g) A    g <- soft(g', eta lambda_t),   soft(x, c) = sign(x) max(|x| - c, 0)

g' is the gate after the optimizer's step and eta its learning rate. lambda_t grows in a straight line from ``sparsity``
to ``sparsity_end`` over the steps before the last event. At the last event components whose gate is 0 are off for
good, and of the others at most ``total`` stay, those of largest |g|. lambda = 0 and the full total is a LoRA with a
gate.

Ding et al., Sparse Low-rank Adaptation of Pre-trained Language Models, 2023, arXiv:2311.11696.

*Deviations*: the default file of the published code thresholds by lambda, the paper and this by eta lambda. The paper
raises lambda in repeated trainings; here it rises within one. The cut to a total is ours, for comparisons at equal
size: give a large total to leave the rank to lambda alone.
"""

from collections.abc import Mapping

import torch

from lorank.catalogue import catalogued
from lorank.lowrank.budgets.core.budget import Budget, Timetable, dynamic_budget, gated_options
from lorank.lowrank.budgets.core.pruning import keep_best
from lorank.lowrank.forms.gated import Gated


@dynamic_budget("sora")
@catalogued("sora", area="adapters.rank", title="Sparse Low-rank Adaptation of Pre-trained Language Models")
class SoRA(Budget):
    """Soft-thresholds the gates.

    Args:
        forms: gated forms.
        total: the most ranks at the end.
        timetable: its last event ends the thresholding.
        seed: unused, nothing is drawn.
        sparsity: lambda at the start.
        sparsity_end: lambda at the last event; None keeps ``sparsity``.
    """

    lr = 0.001
    form_options = gated_options(capacity=1.5, gates="normal")
    exact = False
    growth_change = None

    def __init__(
        self,
        forms: Mapping[str, Gated],
        total: int,
        timetable: Timetable,
        *,
        seed: int = 0,
        sparsity: float = 1.0,
        sparsity_end: float | None = None,
    ) -> None:
        super().__init__(forms, total, timetable, seed=seed)
        self.sparsity, self.sparsity_end = sparsity, sparsity if sparsity_end is None else sparsity_end

    def ranks(self) -> dict[str, int]:
        return {path: int((form.gate * form.mask).count_nonzero()) for path, form in self.forms.items()}

    def planned_total(self, step: int, steps: int) -> int:
        ended = step >= self.timetable.bounds(steps)[1]
        return self.total if ended else sum(form.components for form in self.forms.values())

    @torch.no_grad()
    def after_step(self, step: int, steps: int) -> bool:
        last = self.timetable.bounds(steps)[1]
        if step <= last:
            strength = self.sparsity + (self.sparsity_end - self.sparsity) * step / last
            for form in self.forms.values():
                form.gate.copy_(torch.nn.functional.softshrink(form.gate, strength * self._rate(form)))
        return super().after_step(step, steps)

    def event(self, step: int, steps: int) -> None:
        if step == self.timetable.bounds(steps)[1]:
            kept = keep_best({path: form.gate.detach().abs() for path, form in self.forms.items()}, self.total)
            for path, form in self.forms.items():
                form.switch(kept[path] & (form.gate != 0))

    def _rate(self, form: Gated) -> float:
        groups = self.signals.optimizer.param_groups
        found = (group["lr"] for group in groups if any(parameter is form.gate for parameter in group["params"]))
        return float(next(found))
