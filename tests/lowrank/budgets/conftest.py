"""A toy in which one of four layers needs a low-rank update and the others need none, trained under a budget."""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from lorank import lowrank
from lorank.lowrank.budgets import Budget, make_budget

LAYERS = ("first", "second", "planted", "fourth")


class Parallel(nn.Module):
    """Four linear layers side by side, each with inputs of its own: [n, 4, 8] -> [n, 4, 6]."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        for name in LAYERS:
            layer = nn.Linear(8, 6, bias=False)
            with torch.no_grad():
                layer.weight.copy_(torch.randn(6, 8, generator=generator) / 8**0.5)
            setattr(self, name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([getattr(self, name)(x[:, k]) for k, name in enumerate(LAYERS)], 1)


@dataclass
class Toy:
    """A model under an adapter, the data that its planted update made, and a training loop with a budget in it."""

    model: Parallel
    adapter: lowrank.Adapter
    budget: Budget
    optimizer: torch.optim.Optimizer
    steps: int
    step: int = 0
    ranks: list[dict[str, int]] = field(default_factory=list)
    jumps: dict[int, float] = field(default_factory=dict)
    change: Tensor = field(default_factory=lambda: torch.zeros(()))
    noise: float = 0.05

    def batch(self, seed: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(32, 4, 8, generator=generator)
        with self.adapter.disabled(), torch.no_grad():
            y = self.model(x)
        y[:, LAYERS.index("planted")] += x[:, LAYERS.index("planted")] @ self.change.T
        return x, y + self.noise * torch.randn(y.shape, generator=generator)

    def loss(self, seed: int) -> Tensor:
        x, y = self.batch(seed)
        return (self.model(x) - y).square().mean()

    def metric(self) -> float:
        with torch.no_grad():
            return -float(self.loss(10_000))

    def run(self, until: int | None = None) -> "Toy":
        probe = torch.randn(16, 4, 8, generator=torch.Generator().manual_seed(3))
        while self.step < (self.steps if until is None else until):
            budget, step = self.budget, self.step
            budget.before_step(step, self.steps)
            self.model.train()
            loss = self.loss(step)
            extra = budget.penalty(step, self.steps)
            (loss if extra is None else loss + extra).backward()
            budget.after_backward(step, self.steps)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self.step += 1
            before = self.model(probe).detach()
            if budget.after_step(self.step, self.steps):
                self.jumps[self.step] = float((self.model(probe).detach() - before).abs().max())
            self.ranks.append(budget.ranks())
        return self


def planted_change(rank: int = 2, size: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(11)
    return size * torch.randn(6, rank, generator=generator) @ torch.randn(rank, 8, generator=generator) / 8**0.5


def make_toy(
    name: str,
    *,
    rank: int = 2,
    total: int | None = None,
    steps: int = 60,
    lr: float = 0.03,
    change: int = 2,
    noise: float = 0.05,
    form_options: dict[str, object] | None = None,
    **options: object,
) -> Toy:
    model = Parallel()
    adapter = lowrank.attach(model, name, rank=rank, seed=1, options=form_options)
    options = {"warmup": 0.1, "final": 0.3, "every": 4} | options
    budget = make_budget(name, adapter.forms, total, seed=1, **options)
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=lr)
    toy = Toy(model, adapter, budget, optimizer, steps, change=planted_change(change), noise=noise)
    held_out = lambda index: toy.loss(20_000 + index)  # noqa: E731
    budget.begin(
        SimpleNamespace(optimizer=optimizer, training_loss=toy.loss, held_out_loss=held_out, measure=toy.metric)
    )
    return toy


@pytest.fixture(name="toy")
def toy_fixture() -> Callable[..., Toy]:
    return make_toy
