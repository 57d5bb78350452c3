"""codyra: kappa's sum, gates that are thresholded once, the base where all are 0, and what a second task costs."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.errors import UsageError
from lorank.lowrank.absorbing import absorb
from lorank.lowrank.budgets import make_budget


def test_codyra_thresholds_sum_to_the_sparsity_behind_a_dense_beginning():
    adapter = lowrank.attach(nn.Sequential(nn.Linear(4, 3)), "codyra", rank=2)
    budget = make_budget("codyra", adapter.forms, warmup=0.2, final=0.3, sparsity=0.7)
    kappas = [budget.threshold(step, 50) for step in range(1, 51)]
    assert sum(kappas) == pytest.approx(0.7)
    assert max(kappas[:10]) == 0  # exact: nothing is thresholded
    assert max(kappas[35:]) == 0  # exact: nothing is thresholded
    steps = [later - earlier for earlier, later in pairwise(kappas[10:35])]
    assert steps == pytest.approx([steps[0]] * len(steps))


def test_codyra_thresholds_once_and_not_twice():
    adapter = lowrank.attach(nn.Sequential(nn.Linear(4, 3)), "codyra", rank=3)
    form = adapter.forms["0"]
    budget = make_budget("codyra", adapter.forms, warmup=0.0, final=0.0, sparsity=1.0)
    kappa = budget.threshold(1, 4)
    with torch.no_grad():
        form.gate.copy_(torch.tensor([0.5, 1.5, -3.0]) * kappa)
    budget.after_step(1, 4)
    torch.testing.assert_close(form.gate.detach(), torch.tensor([0.0, 0.5, -2.0]) * kappa)


def test_codyra_with_all_rank_weights_at_0_is_the_base():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(4, 3)), torch.randn(5, 4)
    before = model(x)
    adapter = lowrank.attach(model, "codyra", rank=2)
    with torch.no_grad():
        adapter.forms["0"].B.normal_()
    budget = make_budget("codyra", adapter.forms, warmup=0.0, final=0.0, sparsity=1e3)
    for step in range(1, 5):
        budget.after_step(step, 4)
    torch.testing.assert_close(model(x), before, rtol=0, atol=0)
    assert sum(budget.ranks().values()) == 0


def test_codyra_absorbed_has_the_shape_of_the_base_and_computes_the_same():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)), torch.randn(5, 4)
    shapes = {name: own.shape for name, own in model.state_dict().items()}
    adapter = lowrank.attach(model, "codyra", rank=2)
    with torch.no_grad():
        for form in adapter.forms.values():
            form.B.normal_()
    after = model(x)
    assert absorb(adapter) is model
    torch.testing.assert_close(model(x), after)
    assert {name: own.shape for name, own in model.state_dict().items()} == shapes
    assert all(type(layer) in (nn.Linear, nn.Tanh) for layer in model)


def test_codyra_refuses_a_sparsity_below_0():
    adapter = lowrank.attach(nn.Sequential(nn.Linear(4, 3)), "codyra", rank=2)
    with pytest.raises(UsageError, match="sparsity"):
        make_budget("codyra", adapter.forms, sparsity=-1.0)


def tasks(seed, dim=6):
    """Two tasks on inputs of overlapping subspaces, each a change of rank 1 of one weight, seen with noise."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(2):
        basis = torch.linalg.qr(torch.randn(12, dim, generator=generator)).Q
        change = torch.randn(10, 1, generator=generator) @ torch.randn(1, dim, generator=generator) @ basis.t()
        made.append((basis, change / dim**0.5))
    return made


def learn(model, adapter, weight, task, seed, budget=None, steps=120):
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam([p for p in adapter.parameters() if p.requires_grad], lr=0.02)
    for step in range(1, steps + 1):
        x = torch.randn(16, task[0].shape[1], generator=generator) @ task[0].t()
        y = x @ (weight + task[1]).t() + 0.5 * torch.randn(16, 10, generator=generator)
        (model(x) - y).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        if budget is not None:
            budget.after_step(step, steps)


def error(model, weight, task):
    x = torch.randn(500, task[0].shape[1], generator=torch.Generator().manual_seed(99)) @ task[0].t()
    with torch.no_grad():
        return float((model(x) - x @ (weight + task[1]).t()).square().mean())


def stream(name, seed):
    """The error on task 1 that task 2 adds, and that on task 2 in the end."""
    first, second = tasks(seed)
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(12, 10, bias=False))
    weight = model[0].weight.detach().clone()
    adapter = lowrank.attach(model, name, rank=8, alpha=8.0, seed=seed)
    learn(model, adapter, weight, first, seed, budget_of(name, adapter))
    before = error(model, weight, first)
    if name == "codyra":
        absorb(adapter)
        adapter = lowrank.attach(model, name, rank=8, alpha=8.0, seed=seed + 100)
    learn(model, adapter, weight, second, seed + 50, budget_of(name, adapter))
    return error(model, weight, first) - before, error(model, weight, second)


def budget_of(name, adapter):
    return make_budget("codyra", adapter.forms) if name == "codyra" else None


def test_codyra_forgets_less_than_one_lora_that_trains_on():
    """At its defaults, over seeds; both learn the second task."""
    ours, theirs = ([stream(name, seed) for seed in range(6)] for name in ("codyra", "lora"))
    forgotten, learned = (sum(run[k] for run in ours) / sum(run[k] for run in theirs) for k in (0, 1))
    assert forgotten < 0.8
    assert learned < 3
    assert max(run[1] for run in ours) < 0.1
