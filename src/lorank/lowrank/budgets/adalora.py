r"""AdaLoRA: prune the triplets (b_i, g_i, a_i) to which the loss is least sensitive, under a cubic schedule.

    dW = s B diag(g) A    S_i = score(g_i) + mean_j score(a_ij) + mean_j score(b_ji)    (``sensitivity``)
    b(t) = b1 + (b0 - b1) (1 - (t - t0) / (T - t0 - t1))^3    penalty gamma (||A A^T - I||^2 + ||B^T B - I||^2)

At each event the b(t) triplets of highest score over all layers are kept. Of the others g_i = 0, from which the
optimizer moves it on: where the score has become high at a later event the triplet returns.

Zhang et al., Adaptive Budget Allocation for Parameter-Efficient Fine-Tuning, 2023, arXiv:2303.10512.

*Deviations*: between events a masked triplet adds nothing, however its gate has moved; published code lets it. With
an event at every step both are the same. The penalty is squared as in the paper (the code takes the root). A and B
start with rows and columns of length about 1, where the penalty pulls them, not with deviation 0.02. The schedule
takes shares of the run.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from lorank.catalogue import catalogued
from lorank.lowrank.budgets.core.budget import Timetable, dynamic_budget, gated_options
from lorank.lowrank.budgets.core.orthogonality import orthogonality
from lorank.lowrank.budgets.core.pruning import Pruning
from lorank.lowrank.budgets.core.sensitivity import Sensitivity
from lorank.lowrank.forms.gated import Gated


@dynamic_budget("adalora")
@catalogued("adalora", area="adapters.rank", title="Adaptive Budget Allocation for Parameter-Efficient Fine-Tuning")
class AdaLoRA(Pruning):
    """Prunes by smoothed sensitivity.

    Args:
        forms: gated forms with more components than ``total``.
        total: ranks at the end.
        timetable: events.
        seed: unused, nothing is drawn.
        beta1: weight of the past in the sensitivity.
        beta2: weight of the past in its uncertainty.
        orthogonal: gamma.
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
        beta1: float = 0.85,
        beta2: float = 0.85,
        orthogonal: float = 0.5,
    ) -> None:
        super().__init__(forms, total, timetable, seed=seed)
        self.orthogonal = orthogonal
        self.sensitivity = Sensitivity(self.forms, beta1, beta2)

    def before_step(self, step: int, steps: int) -> None:
        for form in self.forms.values():
            form.through = step < self.timetable.bounds(steps)[1]

    def penalty(self, step: int, steps: int) -> Tensor | None:
        return self.orthogonal * orthogonality(self.forms.values()) if self.orthogonal else None

    def after_backward(self, step: int, steps: int) -> None:
        self.sensitivity.hold()

    def after_step(self, step: int, steps: int) -> bool:
        self.sensitivity.update()
        return super().after_step(step, steps)

    def importance(self) -> dict[str, Tensor]:
        return self.sensitivity.scores()

    @torch.no_grad()
    def switch(self, path: str, kept: Tensor) -> None:
        form = self.forms[path]
        form.switch(kept)
        form.gate.mul_(form.mask)

    def state(self) -> dict[str, Tensor]:
        return dict(self.sensitivity.tensors)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.sensitivity.load(state)
