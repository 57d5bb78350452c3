r"""DyLoRA: one run that serves every rank, by training a random number of leading components at each step.

    each step b ~ U{lowest, ..., R}    y = W x + (alpha / b) B[:, :b] A[:b] x

the same b for all layers. In frozen mode only component b moves at that step. After the run ``truncate`` cuts the
forms to any b in the range. With a total below all components the layers are cut to equal ranks at the last event and
trained on at these.

Valipour et al., DyLoRA: Parameter Efficient Tuning of Pre-trained Models using Dynamic Search-Free Low-Rank
Adaptation, 2022, arXiv:2210.07558.

*Deviations*: frozen mode holds the other components against the optimizer's momentum and weight decay too; published
code only stops their gradient.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.budgets.core.budget import Budget, Timetable, dynamic_budget, gated_options
from lorank.lowrank.forms.form import seeded_generator
from lorank.lowrank.forms.gated import Gated


@torch.no_grad()
def truncate(form: Gated, b: int) -> None:
    """Leave the first ``b`` components on, at scale alpha / b; more than there are is all of them."""
    b = min(b, form.components)
    first = torch.arange(form.components, device=form.mask.device) < b
    form.mask.copy_(first * (form.rank / b if b else 0.0))


@dynamic_budget("dylora")
@catalogued(
    "dylora",
    area="adapters.rank",
    title="DyLoRA: Parameter Efficient Tuning of Pre-trained Models using Dynamic Search-Free Low-Rank Adaptation",
)
class DyLoRA(Budget):
    """Samples a rank a step.

    Args:
        forms: gated forms.
        total: ranks at the end, shared out equally.
        timetable: its last event cuts to the total.
        seed: of the ranks drawn.
        lowest: the least b, from 1 up.
        frozen: whether only component b moves.
    """

    lr = 0.001
    form_options = gated_options(capacity=1.0, gates="one", train_gates=False)
    growth_change = None

    def __init__(
        self,
        forms: Mapping[str, Gated],
        total: int,
        timetable: Timetable,
        *,
        seed: int = 0,
        lowest: int = 1,
        frozen: bool = False,
    ) -> None:
        super().__init__(forms, total, timetable, seed=seed)
        self.most = max((form.components for form in self.forms.values()), default=0)
        if not 1 <= lowest <= max(1, self.most):
            raise UsageError(f"lowest {lowest!r} is not a rank from 1 to {self.most}")
        self.lowest, self.frozen = lowest, frozen
        self._held: dict[int, list[tuple[Tensor, Tensor]]] = {}

    @property
    def everything(self) -> int:
        """The number of components of all layers."""
        return sum(form.components for form in self.forms.values())

    def planned_total(self, step: int, steps: int) -> int:
        return self.total if step >= self.timetable.bounds(steps)[1] else self.everything

    def settled(self, step: int, steps: int) -> bool:
        return self.total == self.everything or super().settled(step, steps)

    def sampled_rank(self, step: int) -> int:
        """Return b of a step."""
        draw = torch.randint(self.lowest, self.most + 1, (), generator=seeded_generator(self.seed, "dylora", step))
        return int(draw)

    def draws_rank(self, step: int, steps: int) -> bool:
        """Return whether the step after ``step`` draws a rank."""
        return self.most > 0 and (self.total == self.everything or step < self.timetable.bounds(steps)[1])

    def before_step(self, step: int, steps: int) -> None:
        if self.draws_rank(step, steps):
            for form in self.forms.values():
                truncate(form, self.sampled_rank(step))

    def after_backward(self, step: int, steps: int) -> None:
        if self.frozen and self.draws_rank(step, steps):
            self._held = {}
            for form in self.forms.values():
                for factor, grad in ((form.A, form.A.grad), (form.B.t(), form.B.grad.t())):
                    others = torch.arange(len(factor)) != min(self.sampled_rank(step), form.components) - 1
                    grad[others] = 0.0
            self._hold(self.sampled_rank(step))

    @torch.no_grad()
    def _hold(self, b: int) -> None:
        for form in self.forms.values():
            for parameter in (form.A, form.B):
                kept = [parameter, *self._moments(parameter)]
                self._held[id(parameter)] = [(tensor, tensor.detach().clone()) for tensor in kept]

    def _moments(self, parameter: Tensor) -> list[Tensor]:
        entry = self.signals.optimizer.state.get(parameter, {})
        return [value for value in entry.values() if torch.is_tensor(value) and value.shape == parameter.shape]

    @torch.no_grad()
    def _release(self, b: int) -> None:
        for form in self.forms.values():
            index = min(b, form.components) - 1
            for parameter, rows in ((form.A, True), (form.B, False)):
                before = self._held.get(id(parameter), [])
                for tensor, old in before:
                    moved = (tensor[index] if rows else tensor[:, index]).clone()
                    tensor.copy_(old)
                    (tensor[index] if rows else tensor[:, index]).copy_(moved)
        self._held = {}

    def after_step(self, step: int, steps: int) -> bool:
        if self._held:
            self._release(self.sampled_rank(step - 1))
        if self.draws_rank(step - 1, steps):
            for form in self.forms.values():
                truncate(form, form.components)
        return super().after_step(step, steps)

    def event(self, step: int, steps: int) -> None:
        if step == self.timetable.bounds(steps)[1] and self.total < self.everything:
            for path, b in self.equal_ranks(self.total).items():
                truncate(self.forms[path], b)
