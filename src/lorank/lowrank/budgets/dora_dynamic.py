r"""DoRA (dynamic rank distribution): prune the components that make up least of their layer's update.

    dW = s sum_i g_i b_i a_i^T    share_i = ||g_i b_i a_i^T||_F / sum_k ||g_k b_k a_k^T||_F    (running mean)
    ||g_i b_i a_i^T||_F = |g_i| ||b_i|| ||a_i||    penalty eta mean_i (Var(a_i) + Var(b_i))

At each event the components of highest share over all layers are kept, as many as a cubic schedule says. The penalty
keeps a component from living on a few of its entries. Starts with B = 0 and g = 1.

Mao et al., DoRA: Enhancing Parameter-Efficient Fine-Tuning with Dynamic Rank Distribution, 2024, arXiv:2405.17357.

*Deviations*: a pruned component does not return, as its share is 0. While all of a layer's norms are 0 its components
have equal shares.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from lorank.catalogue import catalogued
from lorank.lowrank.budgets.core.budget import Timetable, dynamic_budget, gated_options
from lorank.lowrank.budgets.core.pruning import Pruning
from lorank.lowrank.forms.gated import Gated


@dynamic_budget("dora-dynamic")
@catalogued(
    "dora-dynamic",
    area="adapters.rank",
    title="DoRA: Enhancing Parameter-Efficient Fine-Tuning with Dynamic Rank Distribution",
)
class DynamicDoRA(Pruning):
    """Prunes by share of the layer's norm.

    Args:
        forms: gated forms with more components than ``total``.
        total: ranks at the end.
        timetable: events.
        seed: unused, nothing is drawn.
        beta: weight of the past in the shares.
        variance: eta.
    """

    lr = 0.001
    form_options = gated_options(capacity=1.5, gates="one")

    def __init__(
        self,
        forms: Mapping[str, Gated],
        total: int,
        timetable: Timetable,
        *,
        seed: int = 0,
        beta: float = 0.9,
        variance: float = 0.1,
    ) -> None:
        super().__init__(forms, total, timetable, seed=seed)
        self.beta, self.variance = beta, variance
        self.shares = {path: form.mask.new_zeros(form.components) for path, form in self.forms.items()}

    def penalty(self, step: int, steps: int) -> Tensor | None:
        if not self.variance:
            return None
        groups: dict[tuple[int, ...], list[Tensor]] = {}
        for form in self.forms.values():
            for factor in (form.A, form.B.t()):
                groups.setdefault(tuple(factor.shape), []).append(factor)
        spread = [torch.stack(group).var(2, correction=0).sum() for group in groups.values()]
        count = sum(form.components for form in self.forms.values())
        return self.variance * torch.stack(spread).sum() / max(1, count)

    def after_step(self, step: int, steps: int) -> bool:
        for path, form in self.forms.items():
            norms = form.norms()
            whole = norms.sum()
            share = norms / whole if whole > 0 else form.on / max(1, form.active_rank())
            self.shares[path].lerp_(share.to(norms), 1 - self.beta)
        return super().after_step(step, steps)

    def importance(self) -> dict[str, Tensor]:
        return {path: torch.where(form.on, self.shares[path], -1.0) for path, form in self.forms.items()}

    def state(self) -> dict[str, Tensor]:
        return {f"{path}.share": share for path, share in self.shares.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        for path, share in self.shares.items():
            share.copy_(state[f"{path}.share"])
