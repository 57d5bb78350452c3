r"""DiffoRA: relaxed gates choose, on data held out, which layers are adapted at all.

    y = W x + sigmoid(c_l) s B A x      c_l <- c_l - eta dL_held/dc_l (over its root mean square over layers)

At each event one held-out batch moves the relaxed gates (the differential adaptation matrix), while A and B learn on
the training lists in between. At the last event the layers of highest gate get 1 and all others 0, as many layers as
the total of ranks pays for.

Jiang et al., DiffoRA: Enabling Parameter-Efficient LLM Fine-Tuning via Differential Low-Rank Matrix Adaptation, 2025,
arXiv:2502.08905.

*Deviations*: the bilevel step is of first order, as in first-order DARTS: A and B are held while the gates move. It
costs a forward and a backward pass an event. No weights are shared between layers.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from lorank.catalogue import catalogued
from lorank.lowrank.budgets.core.budget import Budget, Timetable, dynamic_budget, gated_options
from lorank.lowrank.budgets.core.layer_gates import factor_gradient, fill_best, steepness, switch_to
from lorank.lowrank.forms.gated import Gated


@dynamic_budget("diffora")
@catalogued(
    "diffora",
    area="adapters.rank",
    title="DiffoRA: Enabling Parameter-Efficient LLM Fine-Tuning via Differential Low-Rank Matrix Adaptation",
)
class DiffoRA(Budget):
    """Chooses layers by relaxed gates.

    Args:
        forms: gated forms.
        total: ranks at the end.
        timetable: events.
        seed: unused, nothing is drawn.
        rate: eta.
    """

    lr = 0.001
    needs = frozenset({"held_out_loss"})
    form_options = gated_options(capacity=2.0, gates="one", train_gates=False)
    growth_change = None

    def __init__(
        self, forms: Mapping[str, Gated], total: int, timetable: Timetable, *, seed: int = 0, rate: float = 0.3
    ) -> None:
        super().__init__(forms, total, timetable, seed=seed)
        self.rate = rate
        self.logits = torch.zeros(len(self.forms))

    def relaxed_gates(self) -> dict[str, float]:
        """Return the gate of each layer, in [0, 1]."""
        return dict(zip(self.forms, self.logits.sigmoid().tolist(), strict=True))

    def planned_total(self, step: int, steps: int) -> int:
        ended = step >= self.timetable.bounds(steps)[1]
        return self.total if ended else sum(form.components for form in self.forms.values())

    def before_step(self, step: int, steps: int) -> None:
        if step == 0:
            self._relax()

    def event(self, step: int, steps: int) -> None:
        assert self.signals.held_out_loss is not None
        loss = self.signals.held_out_loss(self.timetable.events(steps).index(step))
        gradients = torch.autograd.grad(loss, [form.B for form in self.forms.values()])
        slopes = torch.stack(
            [
                factor_gradient(gradient, form.B.detach()).sum() / share
                for gradient, form, share in zip(
                    gradients, self.forms.values(), self.relaxed_gates().values(), strict=True
                )
            ]
        )
        sigmoid = self.logits.sigmoid()
        self.logits -= self.rate * steepness(slopes.to(sigmoid) * sigmoid * (1 - sigmoid))
        if step == self.timetable.bounds(steps)[1]:
            switch_to(self.forms, fill_best(self.relaxed_gates(), self.forms, self.total))
        else:
            self._relax()

    @torch.no_grad()
    def _relax(self) -> None:
        for form, share in zip(self.forms.values(), self.relaxed_gates().values(), strict=True):
            form.mask.fill_(share)

    def state(self) -> dict[str, Tensor]:
        return {"logits": self.logits}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.logits.copy_(state["logits"])
