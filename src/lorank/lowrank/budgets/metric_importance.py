r"""Ranks by the metric: what is kept is what the ranking metric would lose most without.

    cost(i) = M(all) - M(all without i)             measured, or at first order by the gradient of a ranking loss
    cost(i) ~ L(all without i) - L(all) ~ -<b_i, dL/db_i>,     L held out, its gradient weighted by |delta M| (lambda)

M is the dev metric, handed in as a function of the present weights. Measuring it for every component is dear, so that
costs are by default those of first order on one held-out batch an event, as a running mean over events. With
``measured`` the components of lowest first-order cost, that many times those to be pruned, are then measured one by
one. Components of highest cost are kept, on the cubic schedule. Signed: a component whose removal helps goes first.

This is lorank's own; AdaLoRA's schedule with another importance. The first-order cost is one term of the Taylor
expansion used for pruning in Molchanov et al., 2017, arXiv:1611.06440; lambda gradients are Burges et al., 2006.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from lorank.lowrank.budgets.core.budget import Timetable, dynamic_budget, gated_options
from lorank.lowrank.budgets.core.layer_gates import factor_gradient
from lorank.lowrank.budgets.core.orthogonality import orthogonality
from lorank.lowrank.budgets.core.pruning import Pruning, keep_best
from lorank.lowrank.forms.gated import Gated


@dynamic_budget("metric-importance")
class MetricImportance(Pruning):
    """Prunes what the metric does not miss.

    Args:
        forms: gated forms with more components than ``total``.
        total: ranks at the end.
        timetable: events.
        seed: unused, nothing is drawn.
        measured: 0 takes costs of first order; c measures c times as many components as are pruned.
        beta: weight of the past in the first-order costs.
        orthogonal: weight of AdaLoRA's penalty.
    """

    lr = 0.01
    needs = frozenset({"held_out_loss"})
    metric_loss = True
    form_options = gated_options(capacity=1.5, gates="zero")

    def __init__(
        self,
        forms: Mapping[str, Gated],
        total: int,
        timetable: Timetable,
        *,
        seed: int = 0,
        measured: float = 0.0,
        beta: float = 0.7,
        orthogonal: float = 0.5,
    ) -> None:
        super().__init__(forms, total, timetable, seed=seed)
        self.measured, self.beta, self.orthogonal = measured, beta, orthogonal
        if measured:
            self.needs = frozenset({"held_out_loss", "measure"})  # type: ignore[misc]
        self.costs = {path: form.mask.new_zeros(form.components) for path, form in self.forms.items()}

    def penalty(self, step: int, steps: int) -> Tensor | None:
        return self.orthogonal * orthogonality(self.forms.values()) if self.orthogonal else None

    def event(self, step: int, steps: int) -> None:
        self._first_order(self.timetable.events(steps).index(step))
        count = sum(self.ranks().values()) - self.planned_total(step, steps)
        if self.measured and count:
            for path, index in self._cheapest(round(self.measured * count), count):
                self.forms[path].mask[index] = 0.0
        else:
            super().event(step, steps)

    def _first_order(self, index: int) -> None:
        assert self.signals.held_out_loss is not None
        gradients = torch.autograd.grad(self.signals.held_out_loss(index), [form.B for form in self.forms.values()])
        with torch.no_grad():
            for (path, form), gradient in zip(self.forms.items(), gradients, strict=True):
                self.costs[path].lerp_(-factor_gradient(gradient, form.B), 1 - self.beta)

    @torch.no_grad()
    def _cheapest(self, candidates: int, count: int) -> list[tuple[str, int]]:
        """Return the ``count`` components whose removal costs the metric least, of ``candidates`` that are measured."""
        assert self.signals.measure is not None
        kept = keep_best(self.importance(), sum(self.ranks().values()) - max(candidates, count))
        places = [
            (path, i) for path, form in self.forms.items() for i in (form.on & ~kept[path]).nonzero().flatten().tolist()
        ]
        whole, costs = self.signals.measure(), {}
        for path, i in places:
            mask = self.forms[path].mask
            mask[i] = 0.0
            costs[path, i] = whole - self.signals.measure()
            mask[i] = 1.0
        return sorted(places, key=lambda place: (costs[place], float(self.costs[place[0]][place[1]])))[:count]

    def importance(self) -> dict[str, Tensor]:
        return {path: torch.where(form.on, self.costs[path], -torch.inf) for path, form in self.forms.items()}

    def state(self) -> dict[str, Tensor]:
        return {f"{path}.cost": cost for path, cost in self.costs.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        for path, cost in self.costs.items():
            cost.copy_(state[f"{path}.cost"])
