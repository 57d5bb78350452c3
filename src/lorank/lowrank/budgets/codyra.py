r"""CoDyRA: rank weights that a proximal step thins out once they have learned densely for a while.

    dW = s B diag(g) A    g <- soft(g', kappa_t),   soft(x, c) = sign(x) max(|x| - c, 0)

g' is the gate after the optimizer's step. Before the timetable's first step nothing is thresholded; from there kappa_t
grows in a straight line, and its sum up to the last event is ``sparsity``: a gate whose gradient is 0 loses so much
in all. Components whose gate is 0 at the last event are off for good. Trained for a task and merged into W before the
next one (`lorank train --then ... --continual codyra`), each task moves W by the few ranks that it needs. Where all
gates are 0 the forward pass is that of W. The sign and the scale of g can be traded for those of a_i and b_i, so that
g says how important a component is only beside others of the same start.

Lu et al., Adaptive Rank, Reduced Forgetting: Knowledge Retention in Continual Learning Vision-Language Models with
Dynamic Rank-Selective LoRA, 2024, arXiv:2412.01004.

*Deviations*: the published code thresholds gates between kappa and 2 kappa twice, so that they jump to 0; here each
step does it once, as the paper's proximal step. Its kappa ends at 0.005 whatever the length of a run; here the sum of
the steps is given, so that short and long runs lose as many ranks.
"""

from collections.abc import Mapping

import torch

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.budgets.core.budget import Budget, Timetable, dynamic_budget, gated_options
from lorank.lowrank.budgets.core.pruning import keep_best
from lorank.lowrank.forms.gated import Gated


@dynamic_budget("codyra")
@catalogued(
    "codyra",
    area="continual",
    title="Adaptive Rank, Reduced Forgetting: Knowledge Retention in Continual Learning Vision-Language Models with "
    "Dynamic Rank-Selective LoRA",
)
class CoDyRA(Budget):
    """Soft-thresholds rank weights after a dense beginning.

    Args:
        forms: Gated forms.
        total: The most ranks at the end; by default all, so that the threshold alone decides.
        timetable: Its first step ends the dense beginning, its last event the thresholding.
        seed: Unused, nothing is drawn.
        sparsity: The sum of all thresholds, 0 or more; gates start as N(0, 1).
    """

    lr = 0.001
    form_options = gated_options(capacity=1.0, gates="normal")
    exact = False
    growth_change = None

    def __init__(
        self, forms: Mapping[str, Gated], total: int, timetable: Timetable, *, seed: int = 0, sparsity: float = 0.5
    ) -> None:
        super().__init__(forms, total, timetable, seed=seed)
        if not 0 <= sparsity < float("inf"):
            raise UsageError(f"budget.sparsity is {sparsity!r}; give a sum of thresholds from 0 up")
        self.sparsity = sparsity

    def threshold(self, step: int, steps: int) -> float:
        """Return kappa after ``step`` steps: 0 in the dense beginning, then in a straight line up to the last event."""
        first, last = self.timetable.bounds(steps)
        if not first < step <= last:
            return 0.0
        count = last - first
        return self.sparsity * 2.0 * (step - first) / (count * (count + 1))

    def ranks(self) -> dict[str, int]:
        return {path: int((form.gate * form.mask).count_nonzero()) for path, form in self.forms.items()}

    def planned_total(self, step: int, steps: int) -> int:
        ended = step >= self.timetable.bounds(steps)[1]
        return self.total if ended else sum(form.components for form in self.forms.values())

    @torch.no_grad()
    def after_step(self, step: int, steps: int) -> bool:
        kappa = self.threshold(step, steps)
        if kappa > 0:
            for form in self.forms.values():
                form.gate.copy_(torch.nn.functional.softshrink(form.gate, kappa))
        return super().after_step(step, steps)

    def event(self, step: int, steps: int) -> None:
        if step == self.timetable.bounds(steps)[1]:
            kept = keep_best({path: form.gate.detach().abs() for path, form in self.forms.items()}, self.total)
            for path, form in self.forms.items():
                form.switch(kept[path] & (form.gate != 0))
