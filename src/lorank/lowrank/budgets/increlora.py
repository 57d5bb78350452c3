r"""IncreLoRA: start at rank 1 and, at each event, give ranks to the layers that the loss is most sensitive to.

    dW = s B diag(g) A    I_l = sum_i |<dW_i, dL/dW>| = sum_i |g_i dL/dg_i| over l's components    S_l = Ibar_l U_l

with Ibar and U the running means of I and of |I - Ibar|, as in AdaLoRA. At each event the layers of highest S get one
rank each, as many as the plan from one rank a layer to the total requires. The next component of each layer is *warmed*
ahead of time: it is trained with its gate at about 1e-5. Turning it on changes nothing; a new one to warm then adds at
most its 1e-5. Penalty gamma (||A A^T - I||^2 + ||B^T B - I||^2).

Zhang et al., IncreLoRA: Incremental Parameter Allocation Method for Parameter-Efficient Fine-tuning, 2023,
arXiv:2308.12043.

*Deviations*: the paper scores a layer by the mean |dW * dL/dW| over entries of the dense dW, which is never formed
here; the sum within each component takes its place. No parameter groups are added and the learning rate is not
restarted at events: the run's schedule goes on.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from lorank.catalogue import catalogued
from lorank.lowrank.budgets.core.budget import Timetable, dynamic_budget, gated_options
from lorank.lowrank.budgets.core.growing import Growing
from lorank.lowrank.budgets.core.orthogonality import orthogonality
from lorank.lowrank.forms.gated import Gated

WARM = 1e-5


@dynamic_budget("increlora")
@catalogued(
    "increlora",
    area="adapters.rank",
    title="IncreLoRA: Incremental Parameter Allocation Method for Parameter-Efficient Fine-tuning",
)
class IncreLoRA(Growing):
    """Grows by sensitivity, with warmed components.

    Args:
        forms: gated forms with one component on.
        total: ranks at the end.
        timetable: events.
        seed: of new components.
        beta1: weight of the past in the sensitivity.
        beta2: weight of the past in its uncertainty.
        orthogonal: gamma.
    """

    lr = 0.02
    form_options = gated_options(capacity=2.0, active="one", gates="zero")
    growth_change = WARM

    def __init__(
        self,
        forms: Mapping[str, Gated],
        total: int,
        timetable: Timetable,
        *,
        seed: int = 0,
        beta1: float = 0.85,
        beta2: float = 0.85,
        orthogonal: float = 0.1,
    ) -> None:
        super().__init__(forms, total, timetable, seed=seed)
        self.orthogonal, self.beta1, self.beta2 = orthogonal, beta1, beta2
        self.mean, self.spread = torch.zeros(len(self.forms)), torch.zeros(len(self.forms))

    def ranks(self) -> dict[str, int]:
        return {path: int((form.mask == 1).sum()) for path, form in self.forms.items()}

    def before_step(self, step: int, steps: int) -> None:
        if step == 0:
            for form in self.forms.values():
                self._warm(form)

    def penalty(self, step: int, steps: int) -> Tensor | None:
        return self.orthogonal * orthogonality(self.forms.values()) if self.orthogonal else None

    @torch.no_grad()
    def after_backward(self, step: int, steps: int) -> None:
        now = [(form.gate * form.gate.grad)[form.mask == 1].abs().sum() for form in self.forms.values()]
        if now:
            sums = torch.stack(now).to(self.mean)
            self.mean.lerp_(sums, 1 - self.beta1)
            self.spread.lerp_((sums - self.mean).abs(), 1 - self.beta2)

    def after_step(self, step: int, steps: int) -> bool:
        changed = super().after_step(step, steps)
        if step == self.timetable.bounds(steps)[1]:
            for form in self.forms.values():
                form.switch(form.mask == 1)
        return changed

    def layer_importance(self) -> dict[str, float]:
        return dict(zip(self.forms, (self.mean * self.spread).tolist(), strict=True))

    @torch.no_grad()
    def grow(self, path: str, step: int) -> None:
        form = self.forms[path]
        index = int((form.mask == 1).sum())
        if form.mask[index] == 0:  # handed two ranks at once: this one had no time to warm
            form.gate[index], form.mask[index] = 0.0, 1.0
        form.gate[index] *= form.mask[index]
        form.mask[index] = 1.0
        self._warm(form)

    @torch.no_grad()
    def _warm(self, form: Gated) -> None:
        index = int((form.mask == 1).sum())
        if index < form.components:
            form.gate[index], form.mask[index] = 1.0, WARM

    def state(self) -> dict[str, Tensor]:
        return {"mean": self.mean, "spread": self.spread}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.mean.copy_(state["mean"])
        self.spread.copy_(state["spread"])
