r"""ElaLoRA: at each event the lowest components of some layers are pruned and as many grown in the best layers.

    dW = s B diag(g) A    score_i = Ibar(g_i) + mean_j Ibar(a_ij) + mean_j Ibar(b_ji),
    Ibar the running mean of |p dL/dp|
    a layer's score is the mean of its components'; k(t) ranks move, k falling from ``exchange`` to 1

The layers of highest score that have room get one rank each; the ranks come from the components of lowest score in
the other layers. The sum of ranks never changes. New components have g = 0. A warm-up and a final phase without
events frame the exchange.

Chang et al., ElaLoRA: Elastic & Learnable Low-Rank Adaptation for Efficient Model Fine-Tuning, 2025, arXiv:2504.00254.

*Deviations*: [~] the paper schedules how many ranks move by a cubic rule; here the number falls in a straight line.
"""

from collections.abc import Mapping

from torch import Tensor

from lorank.catalogue import catalogued
from lorank.lowrank.budgets.core.budget import Budget, Timetable, dynamic_budget, gated_options
from lorank.lowrank.budgets.core.sensitivity import Sensitivity
from lorank.lowrank.forms.gated import Gated


@dynamic_budget("elalora")
@catalogued(
    "elalora",
    area="adapters.rank",
    title="ElaLoRA: Elastic & Learnable Low-Rank Adaptation for Efficient Model Fine-Tuning",
)
class ElaLoRA(Budget):
    """Moves ranks between layers.

    Args:
        forms: gated forms with room to grow.
        total: ranks at every time; must be what is on at the start.
        timetable: events.
        seed: of new components.
        beta: weight of the past in the scores.
        exchange: ranks that move at the first event; None takes an eighth of ``total``.
    """

    lr = 0.005
    form_options = gated_options(capacity=2.0, active="rank", gates="zero")

    def __init__(
        self,
        forms: Mapping[str, Gated],
        total: int,
        timetable: Timetable,
        *,
        seed: int = 0,
        beta: float = 0.85,
        exchange: int | None = None,
    ) -> None:
        super().__init__(forms, total, timetable, seed=seed)
        self.exchange = max(1, total // 8) if exchange is None else exchange
        self.sensitivity = Sensitivity(self.forms, beta, uncertain=False)
        self.start_with(total)

    def after_backward(self, step: int, steps: int) -> None:
        self.sensitivity.hold()

    def after_step(self, step: int, steps: int) -> bool:
        self.sensitivity.update()
        return super().after_step(step, steps)

    def event(self, step: int, steps: int) -> None:
        scores = self.sensitivity.scores()
        active = {path: [i for i in range(form.components) if form.on[i]] for path, form in self.forms.items()}
        means = {path: float(scores[path][on].mean()) if on else 0.0 for path, on in active.items()}
        count = max(1, round(self.exchange * (1 - self.timetable.passed_share(step, steps))))
        room = [path for path in means if len(active[path]) < self.forms[path].components]
        growing = sorted(room, key=lambda path: -means[path])[:count]
        shrinking = [path for path in means if path not in growing]
        lowest = sorted((float(scores[path][i]), path, i) for path in shrinking for i in active[path])
        for path, (_, other, index) in zip(growing, lowest, strict=False):
            if means[path] <= means[other]:
                continue
            self.forms[other].mask[index] = 0.0
            new = int((~self.forms[path].on).nonzero()[0])
            self.forms[path].renew(new, step)
            self.sensitivity.forget(path, new)
            self.sensitivity.forget(other, index)

    def state(self) -> dict[str, Tensor]:
        return dict(self.sensitivity.tensors)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.sensitivity.load(state)
