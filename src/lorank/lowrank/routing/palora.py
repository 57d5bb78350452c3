r"""PaLoRA: one LoRA a task, mixed by the preference that is asked for.

    W(lambda) = W0 + s sum_t lambda_t B_t A_t,    lambda >= 0, sum lambda = 1

A [tasks, r, in], B [tasks, out, r]. Trained on sum_t lambda_t L_t with preferences that sweep the simplex, one model
holds the whole front between the tasks. lambda comes from ``context(preferences=...)``, one for all or one an
example; without one every task has the same weight. Zero start: every B = 0. Trained values: tasks r (in + out).
Rank of dW: min(tasks r, in, out).

Dimitriadis, Frossard, Fleuret, Pareto Low-Rank Adapters: Efficient Multi-Task Learning with Preferences, 2024,
arXiv:2407.08056.

*Deviations*: the paper's schedule of preferences is only described; ``preference_schedule`` is ours: an even grid over
the simplex, drawn together in its middle at first and spread to its corners as training goes on.
"""

import itertools

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.forms.factored import Factored
from lorank.lowrank.forms.form import Site, form
from lorank.lowrank.routing.context import conditions, one_an_example


@form("palora")
@catalogued(
    "palora",
    area="adapters.moe",
    title="Pareto Low-Rank Adapters: Efficient Multi-Task Learning with Preferences",
)
class PaLoRA(Factored):
    """A preference-weighted sum of ``tasks`` LoRAs.

    >>> from lorank import lowrank
    >>> lowrank.attach(nn.Sequential(nn.Linear(3, 2)), "palora", rank=1, options={"tasks": 3}).num_parameters()
    15
    """

    lr = 0.001

    def __init__(self, site: Site, tasks: int = 2) -> None:
        super().__init__(site)
        if tasks < 1:
            raise UsageError(f"tasks {tasks!r} is not an integer from 1 up")
        self.tasks, bound = tasks, self.in_features**-0.5
        A = torch.empty(tasks, site.rank, self.in_features).uniform_(-bound, bound, generator=site.generator("A"))
        self.A = nn.Parameter(A.to(site.device, site.dtype))
        B = torch.zeros(tasks, self.out_features, site.rank, device=site.device, dtype=site.dtype)
        self.B = nn.Parameter(B)

    def weights(self) -> Tensor:
        """Return the preferences [tasks] or [batch, tasks] in force."""
        given = conditions().preferences
        if given is None:
            return self.A.new_full((self.tasks,), 1 / self.tasks)
        if given.shape[-1] != self.tasks:
            raise UsageError(f"{given.shape[-1]} preferences were given for {self.tasks} tasks")
        return given.to(self.A)

    def pair(self) -> tuple[Tensor, Tensor]:
        weights = self.weights()
        if weights.dim() > 1:
            raise UsageError("preferences differ between examples, so no one matrix stands for dW; tell one for all")
        B = (self.B * weights.view(-1, 1, 1)).permute(1, 0, 2)
        return self.A.flatten(0, 1), B.flatten(1)

    def forward(self, x: Tensor, base: BaseLinear) -> Tensor:
        if self.weights().dim() == 1:
            return super().forward(x, base)
        output = base(x)
        return output + self.update(x, base, output).to(output.dtype)

    def update(self, x: Tensor, base: BaseLinear, output: Tensor) -> Tensor:
        weights = self.weights()
        if weights.dim() == 1:
            return super().update(x, base, output)
        z = self.prepare_input(x)
        rows = one_an_example(weights, z, "preferences").repeat_interleave(self.rank, 1).to(z.dtype)
        inner = z @ self.A.flatten(0, 1).t().to(z.dtype)
        inner = inner * rows.view(len(rows), *[1] * (z.dim() - 2), -1)
        return self.scaling * (inner @ self.B.permute(1, 0, 2).flatten(1).t().to(z.dtype))

    def parameter_count(self) -> int:
        return self.A.numel() + self.B.numel()

    def rank_bound(self) -> int:
        return min(self.tasks * self.rank, self.in_features, self.out_features)


def preference_schedule(step: int, steps: int, tasks: int, points: int = 5) -> Tensor:
    """Return the preference [tasks] to train ``step`` of ``steps`` with.

    The grid of all lambda whose parts are multiples of 1 / (points - 1) is walked through again and again;
    (1 - a) / tasks + a lambda is trained with, a growing from 0 to 1 over the first half of training.

    Args:
        step: The step, counted from 0.
        steps: The number of steps of the training, 1 or more.
        tasks: The number of tasks, 1 or more.
        points: The number of values that a part of lambda takes in the grid, 2 or more.

    >>> [preference_schedule(step, 8, 2, points=3).tolist() for step in (0, 5, 6, 7)]
    [[0.5, 0.5], [0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]
    """
    grid = [p for p in itertools.product(range(points), repeat=tasks) if sum(p) == points - 1]
    corner = torch.tensor(grid[(step - 2) % len(grid)]) / (points - 1)
    spread = min(1.0, 2 * step / steps)
    return (1 - spread) / tasks + spread * corner
