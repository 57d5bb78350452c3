"""AdaLoRA, SoRA, dynamic DoRA, LoRA^2 and metric importance: what each shows beyond the contract."""

import copy

import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.lowrank.budgets.core.orthogonality import orthogonality
from lorank.lowrank.budgets.core.settle import settle

X = torch.randn(5, 4, 8, generator=torch.Generator().manual_seed(9))


def test_adalora_follows_its_cubic_schedule(toy):
    run = toy("adalora", total=3, steps=40, every=1, warmup=0.1, final=0.25).run()
    for step, ranks in enumerate(run.ranks, start=1):
        passed = min(1, max(0, (step - 4) / (30 - 4)))
        assert sum(ranks.values()) == 3 + round((12 - 3) * (1 - passed) ** 3)


def test_adalora_gives_a_planted_rank_one_layer_rank_one(toy):
    run = toy("adalora", total=1, change=1, noise=0.01).run()
    assert run.ranks[-1] == {"first": 0, "second": 0, "planted": 1, "fourth": 0}


def test_adalora_orthogonality_error_falls(toy):
    run = toy("adalora", lr=0.01)
    before = orthogonality(run.adapter.forms.values()).item()
    run.run()
    assert orthogonality(run.adapter.forms.values()).item() < 0.1 * before


def test_orthogonality_by_hand():
    adapter = lowrank.attach(nn.Sequential(nn.Linear(2, 2)), "gated", rank=1)
    form = adapter.forms["0"]
    with torch.no_grad():
        form.A.copy_(torch.tensor([[3.0, 4.0]]))
        form.B.copy_(torch.tensor([[1.0], [1.0]]))
    assert orthogonality([form]).item() == (25 - 1) ** 2 + (2 - 1) ** 2


def test_adalora_masked_triplet_can_return(toy):
    run = toy("adalora", steps=40, every=1).run(until=12)
    form = run.adapter.forms["planted"]
    index = int(form.on.nonzero()[0])
    run.budget.switch("planted", torch.zeros_like(form.on))
    assert form.gate[index] == 0
    run.run(until=20)
    assert form.on.any()


def test_adalora_importance_is_sensitivity_times_uncertainty(toy):
    run = toy("adalora")
    form, parts = run.adapter.forms["first"], ("A", "B", "gate")
    means = {part: torch.zeros_like(getattr(form, part)) for part in parts}
    spreads = {part: torch.zeros_like(getattr(form, part)) for part in parts}
    for step in range(3):
        run.loss(step).backward()
        run.budget.after_backward(step, 60)
        gradients = {part: getattr(form, part).grad.clone() for part in parts}
        run.optimizer.step()
        run.optimizer.zero_grad()
        run.budget.sensitivity.update()
        for part in parts:
            now = (getattr(form, part) * gradients[part]).abs()
            means[part] = 0.85 * means[part] + 0.15 * now
            spreads[part] = 0.85 * spreads[part] + 0.15 * (now - means[part]).abs()
    s = {part: (means[part] * spreads[part]).detach() for part in parts}
    expected = s["gate"] + s["A"].mean(1) + s["B"].mean(0)
    torch.testing.assert_close(run.budget.importance()["first"], expected)


def test_sora_without_sparsity_is_a_lora_with_a_gate(toy):
    run = toy("sora", total=12, sparsity=0.0, steps=15).run()
    alone = toy("sora", total=12, sparsity=0.0, steps=15)
    for step in range(15):
        alone.loss(step).backward()
        alone.optimizer.step()
        alone.optimizer.zero_grad(set_to_none=True)
    assert all(torch.equal(alone.adapter.state()[key], tensor) for key, tensor in run.adapter.state().items())


def test_sora_rank_does_not_rise_with_lambda(toy):
    survivors = [sum(toy("sora", total=12, sparsity=s).run().ranks[-1].values()) for s in (0.0, 0.3, 1.0, 4.0)]
    assert survivors == sorted(survivors, reverse=True)
    assert survivors[0] == 12
    assert survivors[-1] < 6


def test_sora_steps_by_the_soft_threshold(toy):
    run = toy("sora", sparsity=2.0, sparsity_end=6.0, total=12)
    form = run.adapter.forms["first"]
    last = run.budget.timetable.bounds(60)[1]
    with torch.no_grad():
        form.gate.copy_(torch.tensor([1.0, -0.05, 0.2]))
    run.budget.after_step(3, 60)
    c = 0.03 * (2 + 4 * 3 / last)
    torch.testing.assert_close(form.gate.detach(), torch.tensor([1 - c, 0.0, 0.2 - c]))


def test_sora_pruned_is_gated(toy):
    run = toy("sora", total=12, sparsity=1.0).run()
    gated = run.model(X)
    settle(run.adapter)
    assert run.adapter.num_parameters() < 12 * (8 + 6)
    assert (run.model(X) - gated).abs().max() < 1e-6


def test_dynamic_dora_norm_is_the_frobenius_norm(toy):
    run = toy("dora-dynamic", total=5).run()
    form = run.adapter.forms["planted"]
    explicit = torch.stack(
        [(form.scaling * form.gate[i] * form.mask[i] * torch.outer(form.B[:, i], form.A[i])).norm() for i in range(3)]
    )
    torch.testing.assert_close(form.norms(), explicit.detach())
    assert sum(run.ranks[-1].values()) == 5


def test_dynamic_dora_keeps_the_larger_components_of_a_layer(toy):
    run = toy("dora-dynamic", total=4, steps=20, lr=0.0, variance=0.0, beta=0.0)
    for form in run.adapter.forms.values():
        with torch.no_grad():
            form.A.copy_(torch.ones(3, 8))
            form.B.copy_(torch.tensor([1.0, 5.0, 1.0]).expand(6, 3))
    run.run()
    assert all(form.on.tolist() == [False, True, False] for form in run.adapter.forms.values())


def test_dynamic_dora_penalty_is_the_variance_of_entries(toy):
    run = toy("dora-dynamic", variance=2.0)
    forms = run.adapter.forms.values()
    spread = sum(form.A[i].var(correction=0) + form.B[:, i].var(correction=0) for form in forms for i in range(3))
    torch.testing.assert_close(run.budget.penalty(0, 60), 2 * spread / 12)


def test_lora_squared_planes_are_orthogonal_and_scores_few(toy):
    run = toy("lora-squared", total=5).run()
    for form in run.adapter.forms.values():
        assert (form.A[:2] @ form.A[2:].T).abs().max() < 1e-3
        assert (form.B[:, :2].T @ form.B[:, 2:]).abs().max() < 1e-3
    assert run.budget.scores_a_step == 12
    wide = lowrank.attach(nn.Sequential(nn.Linear(64, 64)), "lora-squared", rank=4)
    ours = lowrank.budgets.make_budget("lora-squared", wide.forms).scores_a_step
    theirs = sum(t.numel() for t in lowrank.budgets.make_budget("adalora", wide.forms).sensitivity.tensors.values()) / 2
    assert ours <= (1 - 0.985) * theirs


def test_lora_squared_pruned_is_masked(toy):
    run = toy("lora-squared", total=5).run()
    masked = run.model(X)
    settle(run.adapter)
    torch.testing.assert_close(run.model(X), masked, atol=1e-6, rtol=0)


def test_metric_cost_of_first_order_is_the_derivative_of_removal(toy):
    run = toy("metric-importance", beta=0.0, steps=40).run(until=10)
    run.budget._first_order(0)
    form = run.adapter.forms["planted"]
    for index in range(form.components):
        e = 1e-3
        kept = form.mask.clone()
        losses = []
        for factor in (1 - e, 1 + e):
            form.mask[index] = factor
            losses.append(float(run.loss(20_000)))
            form.mask.copy_(kept)
        slope = (losses[1] - losses[0]) / (2 * e)
        assert run.budget.costs["planted"][index].item() == pytest.approx(-slope, abs=2e-3)


def test_measured_metric_importance_prunes_what_costs_least(toy):
    run = toy("metric-importance", total=2, steps=30, measured=99.0, every=30, final=0.5)
    asked = []
    run.budget.signals.measure = lambda: asked.append(0) or run.metric()
    run.run(until=14)
    twin = copy.deepcopy(run)
    whole, costs = twin.metric(), {}
    run.run(until=15)
    assert len(asked) == 1 + 12
    assert sum(run.ranks[-1].values()) == 2
    # the same step without the budget, then each removal by hand
    twin.budget.after_step = lambda step, steps: False
    twin.run(until=15)
    whole = twin.metric()
    for path, form in twin.adapter.forms.items():
        for index in range(form.components):
            form.mask[index] = 0
            costs[path, index] = whole - twin.metric()
            form.mask[index] = 1
    kept = {(path, i) for path, form in run.adapter.forms.items() for i in form.on.nonzero().flatten().tolist()}
    assert kept == set(sorted(costs, key=costs.get)[-2:])
