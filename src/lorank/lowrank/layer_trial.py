r"""How far a method at a rate lowers the loss of one layer: the first of the problems that its default rate comes from.

    W = U diag(k^-1/2) V^T [n, n], ||W||_F = sqrt(n);    x_i = z_i diag(k^-1/4) Q, 64 rows of length about sqrt(n)
    L = sum_i |R tanh(W x_i) - t_i|^2 / sum_i |R tanh(W_0 x_i) - t_i|^2,    t_i = R tanh(W_0 x_i) + noise

U, V, Q are random rotations; R [4, n] reads out, and is frozen as W is. The noise is as large as what R reads, so that
the loss begins at 1 and an update that fits all rows ends at 0. Every form has directions that lower it: what decides
is how far the steps go, not how many values a form has. A run is ``STEPS`` steps on all rows at a constant rate, with
the rule, the budget, the schedules and the penalties that the method brings.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from lorank.lowrank.adapter import Adapter
from lorank.lowrank.attaching import attach
from lorank.lowrank.budgets import DYNAMIC, Budget, make_budget
from lorank.lowrank.calibration import calibrate
from lorank.lowrank.presets import preset, statistics_needed
from lorank.lowrank.rates import AUTO, default_rate
from lorank.lowrank.rules import Losses, Rates, Rule, make_rule
from lorank.lowrank.starts import Statistics

STEPS = 30
ROWS, READ = 64, 4

Rows = tuple[Tensor, Tensor]


class ReadLayer(nn.Module):
    """R tanh(W x) of a layer ``W`` and a frozen readout R."""

    readout: Tensor

    def __init__(self, size: int, generator: torch.Generator) -> None:
        super().__init__()
        spectrum = torch.arange(1.0, size + 1).rsqrt()
        weight = _rotation(size, generator) * spectrum @ _rotation(size, generator)
        self.layer = nn.Linear(size, size)
        with torch.no_grad():
            self.layer.weight.copy_(weight * (size**0.5 / weight.norm()))
            self.layer.bias.zero_()
        self.register_buffer("readout", torch.randn(READ, size, generator=generator) / size**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Return what is read [rows, 4] for ``x`` [rows, n]."""
        return torch.tanh(self.layer(x)) @ self.readout.T


@dataclass(frozen=True)
class LayerProblem:
    """A layer, rows to train on, and rows that are never trained on."""

    model: ReadLayer
    rows: Rows
    held_out: Rows

    def loss(self, model: nn.Module, rows: Rows) -> Tensor:
        """Return the mean squared error over ``rows`` in units of its start."""
        error: Tensor = model(rows[0]) - rows[1]
        return error.square().mean()


def layer_problem(seed: int = 0, size: int = 384) -> LayerProblem:
    """Return the problem that ``seed`` draws, with a model of its own."""
    return copy.deepcopy(_draw_problem(seed, size))


@lru_cache(maxsize=4)
def _draw_problem(seed: int, size: int) -> LayerProblem:
    generator = torch.Generator().manual_seed(seed)
    model = ReadLayer(size, generator)
    spread = torch.arange(1.0, size + 1) ** -0.25
    spread = spread * (size**0.5 / spread.norm())

    def rows() -> Rows:
        x = torch.randn(ROWS, size, generator=generator) * spread @ rotation
        with torch.no_grad():
            read = model(x)
        noise = torch.randn(read.shape, generator=generator)
        return x, read + noise * (1 / noise.square().mean().sqrt())

    rotation = _rotation(size, generator)
    return LayerProblem(model, rows(), rows())


def lower_layer_loss(
    method: str,
    lr: float | None = None,
    *,
    seed: int = 0,
    steps: int = STEPS,
    size: int = 384,
    rank: int | None = None,
    start: str | None = None,
    rule: str = AUTO,
    options: Mapping[str, object] | None = None,
) -> float:
    """Return the share of the layer's loss that ``steps`` steps of ``method`` take away; below 0 where it rose.

    Args:
        method: as in ``attach``.
        lr: the rate of every step, above 0; None is the one that the method brings.
        seed: of the problem and of the method's draws.
        steps: how many.
        size: n, the width of the layer.
        rank: as in ``attach``.
        start: as in ``attach``.
        rule: how the factors step; "auto" is the method's own.
        options: as in ``attach``.

    >>> lower_layer_loss("lora", 2e-3, size=32, steps=10) > lower_layer_loss("lora", 2e-5, size=32, steps=10) > 0
    True
    """
    rate = default_rate(method, start=start, rule=rule).value if lr is None else lr
    problem = layer_problem(seed, size)
    model = problem.model
    adapter = attach(
        model,
        method,
        rank=rank,
        start=start,
        seed=seed,
        options=options,
        statistics=_statistics(problem, statistics_needed(method, start), seed),
    )
    steps_by = make_rule(preset(method).rule if rule == AUTO else rule)
    budget = make_budget(preset(method).budget, adapter.forms, seed=seed) if preset(method).budget in DYNAMIC else None
    with torch.no_grad():
        before = float(problem.loss(model, problem.rows))
    _take_steps(problem, adapter, steps_by, budget, rate, steps)
    with torch.no_grad():
        after = float(problem.loss(model, problem.rows))
    return 1 - after / before if after == after else float("-inf")


def _take_steps(
    problem: LayerProblem, adapter: Adapter, rule: Rule, budget: Budget | None, lr: float, steps: int
) -> None:
    model = problem.model
    optimizer = rule.optimizer([{"params": list(adapter.parameters())}], adapter, Rates(lr))

    def training(step: int = 0) -> Tensor:
        return problem.loss(model, problem.rows)

    def held_out(index: int = 0) -> Tensor:
        return problem.loss(model, problem.held_out)

    def measure() -> float:
        with torch.no_grad():
            return -float(held_out())

    rule.begin(adapter, optimizer, steps, Losses(training, held_out))
    if budget is not None:
        budget.begin(
            SimpleNamespace(optimizer=optimizer, training_loss=training, held_out_loss=held_out, measure=measure)
        )
    adapter.advance(0, steps)
    model.train()
    for step in range(steps):
        rule.before_step(step, steps)
        if budget is not None:
            budget.before_step(step, steps)
        value = training(step)
        extras = [rule.penalty(), *(form.penalty() for form in adapter.forms.values())]
        extras += [] if budget is None else [budget.penalty(step, steps)]
        for extra in extras:
            value = value if extra is None else value + extra
        value.backward()
        rule.after_backward(float(value.detach()))
        if budget is not None:
            budget.after_backward(step, steps)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        adapter.advance(step + 1, steps)
        rule.after_step(step + 1, steps)
        if budget is not None:
            budget.after_step(step + 1, steps)
    model.eval()


def _statistics(problem: LayerProblem, needed: frozenset[str], seed: int) -> dict[str, Statistics] | None:
    """Return what a calibration pass sees; data to forget are the rows, data to retain those held out."""
    if not needed:
        return None
    found = calibrate(problem.model, [problem.rows], problem.loss, seed=seed)
    other = calibrate(problem.model, [problem.held_out], problem.loss, seed=seed)
    return {
        path: {**own, "fisher_forget": own["fisher"], "fisher_retain": other[path]["fisher"]}
        for path, own in found.items()
    }


def _rotation(size: int, generator: torch.Generator) -> Tensor:
    """Return a random rotation [size, size]."""
    rotation: Tensor = torch.linalg.qr(torch.randn(size, size, generator=generator)).Q
    return rotation
