r"""MHR: an inventory of LoRAs, mixed anew for every task and every head.

    A_t = [sum_m alpha[t, h, m] A_m,h]_h,    B_t = [sum_m alpha[t, h, m] B_m,h]_h,    alpha[t, h] = softmax(Z[t, h])
    dW_t = s B_t A_t

Z [tasks, heads, modules] are the routing logits. A head is a block of each factor's input dimension: A_m,h [r, in / h]
and B_m,h [out, r / h]; one head is Poly. The task comes from ``context(tasks=...)``, one for all or one an example;
where none is given alpha is averaged over the tasks. Zero start: every B = 0, Z = 0. Trained values: modules r
(in + out) + tasks heads modules. Rank of dW_t: min(r, in, out).

``tune(adapter, "z")`` trains the logits alone on a new task, ``tune(adapter, "mu")`` puts the modules' mean in the
place of all of them and trains that.

Caccia, Ponti, Su, Pereira, Le Roux, Sordoni, Multi-Head Adapter Routing for Cross-Task Generalization, 2022,
arXiv:2211.03831.

*Deviations*: softmax weights; Poly draws relaxed Bernoulli ones and divides by their sum.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.errors import UsageError, unknown_name
from lorank.lowrank.adapter import Adapter
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.forms.factored import Factored
from lorank.lowrank.forms.form import Site, form
from lorank.lowrank.routing.context import conditions, one_an_example


@form("mhr")
@catalogued("mhr", area="adapters.moe", title="Multi-Head Adapter Routing for Cross-Task Generalization")
class MHR(Factored):
    """Task-wise mixtures of ``modules`` LoRAs in ``heads`` blocks.

    ``heads`` must divide in and r; a layer where it does not uses the largest number up to it that does.

    >>> from lorank import lowrank
    >>> options = {"tasks": 3, "modules": 4, "heads": 2}
    >>> lowrank.attach(nn.Sequential(nn.Linear(6, 5)), "mhr", rank=2, options=options).num_parameters()
    112
    """

    lr = 0.001

    def __init__(self, site: Site, tasks: int = 2, modules: int = 4, heads: int = 2) -> None:
        super().__init__(site)
        if min(tasks, modules, heads) < 1:
            raise UsageError(f"tasks {tasks}, modules {modules} and heads {heads} must be from 1 up")
        self.tasks, self.inventory = tasks, modules
        self.heads = next(h for h in range(heads, 0, -1) if self.in_features % h == 0 and site.rank % h == 0)
        bound, like = self.in_features**-0.5, site.like
        A = torch.empty(modules, site.rank, self.in_features).uniform_(-bound, bound, generator=site.generator("A"))
        self.A = nn.Parameter(A.to(**like))
        self.B = nn.Parameter(torch.zeros(modules, self.out_features, site.rank, **like))
        self.logits = nn.Parameter(torch.zeros(tasks, self.heads, modules, **like))

    def weights(self) -> Tensor:
        """Return alpha [heads, modules], or [batch, heads, modules] where tasks differ between examples."""
        alpha = self.logits.softmax(-1)
        given = conditions().tasks
        if given is None:
            return alpha.mean(0)
        highest = int(torch.as_tensor(given).max())
        if highest >= self.tasks or int(torch.as_tensor(given).min()) < 0:
            raise UsageError(f"task {highest} was given, and there are {self.tasks} (from 0)")
        return alpha[given if isinstance(given, int) else given.to(alpha.device)]

    def mix_factors(self, alpha: Tensor) -> tuple[Tensor, Tensor]:
        """Return A_t [..., r, in] and B_t [..., out, r] of weights ``alpha`` [..., heads, modules]."""
        A = self.A.unflatten(2, (self.heads, -1))
        B = self.B.unflatten(2, (self.heads, -1))
        return (
            torch.einsum("...hm,mrhi->...rhi", alpha, A).flatten(-2),
            torch.einsum("...hm,mohr->...ohr", alpha, B).flatten(-2),
        )

    def pair(self) -> tuple[Tensor, Tensor]:
        alpha = self.weights()
        if alpha.dim() > 2:
            raise UsageError("tasks differ between examples, so no one matrix stands for the update; tell one task")
        return self.mix_factors(alpha)

    def forward(self, x: Tensor, base: BaseLinear) -> Tensor:
        if not isinstance(conditions().tasks, Tensor):
            return super().forward(x, base)
        output = base(x)
        return output + self.update(x, base, output).to(output.dtype)

    def update(self, x: Tensor, base: BaseLinear, output: Tensor) -> Tensor:
        alpha = self.weights()
        if alpha.dim() == 2:
            return super().update(x, base, output)
        z = self.prepare_input(x)
        A, B = (factor.to(z.dtype) for factor in self.mix_factors(one_an_example(alpha, z, "tasks")))
        rows = z.flatten(1, -2) if z.dim() > 2 else z.unsqueeze(1)
        y = self.scaling * ((rows @ A.transpose(1, 2)) @ B.transpose(1, 2))
        return y.view(*z.shape[:-1], self.out_features)

    @torch.no_grad()
    def average(self) -> None:
        """Put the modules' mean in the place of every module: then routing makes no difference."""
        for factor in (self.A, self.B):
            factor.copy_(factor.mean(0, keepdim=True).expand_as(factor))

    def parameter_count(self) -> int:
        return self.A.numel() + self.B.numel() + self.logits.numel()

    def rank_bound(self) -> int:
        return min(self.rank, self.in_features, self.out_features)


TUNED = ("z", "mu")


def tune(adapter: Adapter, what: Literal["z", "mu"]) -> list[nn.Parameter]:
    """Prepare an MHR adapter for a new task and return what is to be trained.

    "z": the routing logits alone, uniform at first. "mu": the modules, all set to their mean, with uniform logits
    that stay; their gradients are equal, so they remain one module.
    """
    if what not in TUNED:
        raise unknown_name("way of tuning", what, TUNED)
    inventories = [each for each in adapter.forms.values() if isinstance(each, MHR)]
    if not inventories:
        raise UsageError(f"adapter {adapter.settings.method!r} has no inventory of modules; attach 'mhr'")
    trained = []
    for each in inventories:
        nn.init.zeros_(each.logits)
        if what == "mu":
            each.average()
        each.logits.requires_grad_(what == "z")
        for factor in (each.A, each.B):
            factor.requires_grad_(what == "mu")
        trained += [each.logits] if what == "z" else [each.A, each.B]
    return trained
