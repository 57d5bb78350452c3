r"""AutoLoRA: selection variables of the components, learned by their effect on held-out data after a training step.

    dW = s R sum_i alpha_i b_i a_i^T,    alpha = softmax(c) in each layer, summing to 1
    w' = w - xi dL_train(w, alpha)/dw                       (one step of the factors, ahead)
    c <- c - eta dL_held(w', alpha)/dc,
    dL_held/dalpha ~ d_alpha L_held(w') - xi (d_alpha L_train(w+) - d_alpha L_train(w-)) / (2 e),
    w+- = w +- e dL_held/dw'

At each event the selection moves once; in between the run trains A and B. At the last event the components of largest
alpha stay, ``total`` of them, and are trained on with their alpha fixed.

Zhang et al., AutoLoRA: Automatically Tuning Matrix Ranks in Low-Rank Adaptation Based on Meta Learning, 2024,
arXiv:2403.09113.

*Deviations*: dW is scaled by R so that equal alphas are a plain LoRA. Components are cut to a total, not at a
threshold of alpha, and the kept ones are trained on rather than anew. An event costs four forward and backward
passes.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from lorank.catalogue import catalogued
from lorank.lowrank.budgets.core.budget import Budget, Timetable, dynamic_budget, gated_options
from lorank.lowrank.budgets.core.layer_gates import steepness
from lorank.lowrank.budgets.core.pruning import keep_best
from lorank.lowrank.forms.gated import Gated

Loss = Callable[[], Tensor]


def hypergradient(
    training: Loss,
    held_out: Loss,
    weights: Sequence[Tensor],
    selection: Sequence[Tensor],
    rate: float,
    reach: float = 1e-2,
) -> list[Tensor]:
    """Return dL_held(w - rate dL_train/dw, alpha)/dalpha by the finite difference above; ``weights`` are put back.

    Args:
        training: L_train of the present weights and selection, with its graph.
        held_out: L_held likewise.
        weights: w, leaves that require gradients.
        selection: alpha, leaves that require gradients.
        rate: xi, of the step ahead.
        reach: e, before it is divided by the length of dL_held/dw'.
    """
    before = [w.detach().clone() for w in weights]
    downhill = torch.autograd.grad(training(), weights)
    with torch.no_grad():
        for w, step in zip(weights, downhill, strict=True):
            w -= rate * step
    count = len(weights)
    both = torch.autograd.grad(held_out(), [*weights, *selection])
    toward, direct = both[:count], both[count:]
    length = torch.stack([g.square().sum() for g in toward]).sum().sqrt()
    e = float(reach / length) if length > 0 else 0.0
    sides = []
    for sign in (1.0, -1.0):
        with torch.no_grad():
            for w, old, g in zip(weights, before, toward, strict=True):
                w.copy_(old + sign * e * g)
        sides.append(torch.autograd.grad(training(), selection))
    with torch.no_grad():
        for w, old in zip(weights, before, strict=True):
            w.copy_(old)
    if not e:
        return list(direct)
    return [d - rate * (up - down) / (2 * e) for d, up, down in zip(direct, *sides, strict=True)]


@dynamic_budget("autolora-meta")
@catalogued(
    "autolora-meta",
    area="adapters.rank",
    title="AutoLoRA: Automatically Tuning Matrix Ranks in Low-Rank Adaptation Based on Meta Learning",
)
class AutoLoRA(Budget):
    """Selects components by meta-learning.

    Args:
        forms: gated forms with more components than ``total``.
        total: ranks at the end.
        timetable: events.
        seed: unused, nothing is drawn.
        rate: eta, in units of the root mean square derivative.
        ahead: xi; None takes the run's learning rate.
    """

    lr = 0.001
    needs = frozenset({"held_out_loss"})
    form_options = gated_options(capacity=1.5, gates="one", train_gates=False)
    growth_change = None

    def __init__(
        self,
        forms: Mapping[str, Gated],
        total: int,
        timetable: Timetable,
        *,
        seed: int = 0,
        rate: float = 0.3,
        ahead: float | None = None,
    ) -> None:
        super().__init__(forms, total, timetable, seed=seed)
        self.rate, self.ahead = rate, ahead
        self.logits = {path: torch.zeros_like(form.mask) for path, form in self.forms.items()}

    def selection(self) -> dict[str, Tensor]:
        """Return alpha [R] of each layer; it sums to 1."""
        return {path: logits.softmax(0) for path, logits in self.logits.items()}

    def planned_total(self, step: int, steps: int) -> int:
        ended = step >= self.timetable.bounds(steps)[1]
        return self.total if ended else sum(form.components for form in self.forms.values())

    def event(self, step: int, steps: int) -> None:
        self._move(step, steps)
        if step == self.timetable.bounds(steps)[1]:
            for path, kept in keep_best(self.selection(), self.total).items():
                self.forms[path].switch(kept)

    def _move(self, step: int, steps: int) -> None:
        held_out, index = self.signals.held_out_loss, self.timetable.events(steps).index(step)
        assert held_out is not None
        gates = [form.gate for form in self.forms.values()]
        weights = [factor for form in self.forms.values() for factor in (form.A, form.B)]
        for gate in gates:
            gate.requires_grad_(True)
        rate = self.signals.optimizer.param_groups[0]["lr"] if self.ahead is None else self.ahead
        slopes = hypergradient(
            lambda: self.signals.training_loss(step - 1), lambda: held_out(index), weights, gates, rate
        )
        for gate in gates:
            gate.requires_grad_(False)
        self._descend(slopes)

    @torch.no_grad()
    def _descend(self, slopes: Sequence[Tensor]) -> None:
        moved = []
        for alpha, slope in zip(self.selection().values(), slopes, strict=True):
            moved.append(len(alpha) * alpha * (slope - (alpha * slope).sum()))
        whole = steepness(torch.cat(moved)) if moved else torch.zeros(0)
        for form, logits, part in zip(
            self.forms.values(), self.logits.values(), whole.split([len(m) for m in moved]), strict=True
        ):
            logits -= self.rate * part
            form.gate.copy_(form.components * logits.softmax(0))

    def state(self) -> dict[str, Tensor]:
        return {f"{path}.logits": logits for path, logits in self.logits.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        for path, logits in self.logits.items():
            logits.copy_(state[f"{path}.logits"])
