r"""TriAdaptLoRA: triangular factors grown rank by rank where the update has moved most.

    dW = s B diag(g) A,  a_i[:i] = 0,  b_i[:i] = 0      (A upper, B lower triangular: the shape of an LU factorisation)
    n_l = ||dW_l(t) - dW_l(t')||_F / sqrt(in out), divided by its maximum over layers;  t' the event before
    layer l grows at an event if n_l >= 1 - (how far the phase of events is)

while the total allows. The last event hands out what is left, in order of n. The norms come from the factors.
New components have g = 0.

Liang et al., TriAdaptLoRA: Brain-Inspired Triangular Adaptive Low-Rank Adaptation for Parameter-Efficient
Fine-Tuning, 2025, arXiv:2501.08008.

*Deviations*: [~] reconstructed from the paper's idea: the threshold falls in a straight line from the largest
importance to 0, and the zeros of the triangles are kept by taking their gradient away.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from lorank.catalogue import catalogued
from lorank.lowrank.budgets.core.budget import Timetable, dynamic_budget, gated_options, hand_out
from lorank.lowrank.budgets.core.growing import Growing
from lorank.lowrank.forms.gated import Gated


@dynamic_budget("triadaptlora")
@catalogued(
    "triadaptlora",
    area="adapters.rank",
    title="TriAdaptLoRA: Brain-Inspired Triangular Adaptive Low-Rank Adaptation for Parameter-Efficient Fine-Tuning",
)
class TriAdaptLoRA(Growing):
    """Grows where the increment is above a falling threshold.

    Args:
        forms: gated triangular forms with one component on.
        total: ranks at the end.
        timetable: events.
        seed: of new components.
    """

    lr = 0.01
    form_options = gated_options(capacity=2.0, active="one", gates="zero", triangular=True)
    exact = False

    def __init__(self, forms: Mapping[str, Gated], total: int, timetable: Timetable, *, seed: int = 0) -> None:
        super().__init__(forms, total, timetable, seed=seed)
        self.before = {path: (form.A.detach().clone(), torch.zeros_like(form.B)) for path, form in self.forms.items()}

    def planned_total(self, step: int, steps: int) -> int:
        return self.total

    def after_backward(self, step: int, steps: int) -> None:
        for form in self.forms.values():
            form.A.grad.triu_()
            form.B.grad.tril_()

    @torch.no_grad()
    def layer_importance(self) -> dict[str, float]:
        norms = {}
        for path, form in self.forms.items():
            A, B = self.before[path]
            size = (form.in_features * form.out_features) ** 0.5
            norms[path] = (
                product_norm(torch.cat([form.A, A]), torch.cat([form.B * form.effective_gates(), -B], 1)) / size
            )
        largest = max(norms.values(), default=0.0)
        return {path: norm / largest if largest else 0.0 for path, norm in norms.items()}

    def event(self, step: int, steps: int) -> None:
        importance = self.layer_importance()
        ranks = self.ranks()
        last = step == self.timetable.bounds(steps)[1]
        threshold = 1 - self.timetable.passed_share(step, steps)
        free = {path: form.components - ranks[path] for path, form in self.forms.items()}
        if not last:
            free = {path: min(1, room) if importance[path] >= threshold else 0 for path, room in free.items()}
        for path, count in hand_out(importance, free, self.total - sum(ranks.values())).items():
            for _ in range(count):
                self.grow(path, step)
        with torch.no_grad():
            for path, form in self.forms.items():
                self.before[path][0].copy_(form.A)
                self.before[path][1].copy_(form.B * form.effective_gates())

    def state(self) -> dict[str, Tensor]:
        return {
            f"{path}.{name}": tensor
            for path, pair in self.before.items()
            for name, tensor in zip("AB", pair, strict=True)
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        for path, (A, B) in self.before.items():
            A.copy_(state[f"{path}.A"])
            B.copy_(state[f"{path}.B"])


def product_norm(A: Tensor, B: Tensor) -> float:
    """Return ||B A||_F of thin factors by their Gram matrices.

    >>> product_norm(torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0], [0.0]]))
    10.0
    """
    return float(((B.t() @ B) * (A @ A.t())).sum().clamp_min(0).sqrt())
