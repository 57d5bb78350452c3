"""SwitchLoRA: what a switch changes and what it leaves, the reached rank, and AdamW by rows (switchlora)."""

import math

import pytest
import torch
from torch import nn

from factored_layers import linear
from lorank.errors import UsageError
from lorank.lowrank.factored import RowAdamW, make_factored

SEEDS = [0, 1]


def one(seed, rank=2, **options):
    torch.manual_seed(seed)
    weight = torch.randn(12, 10) / 3
    made = make_factored(nn.Sequential(linear(weight)), "switchlora", targets="0", rank=rank, seed=seed, **options)
    (layer,) = made.layers.values()
    return made, layer, weight


def step(layer, optimizer, seed=0):
    goal = torch.randn(12, 10, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    (layer.dense() - goal).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize("seed", SEEDS)
def test_it_begins_with_the_replaced_weight(seed):
    _, layer, weight = one(seed)
    torch.testing.assert_close(layer.dense(), weight, atol=1e-6, rtol=1e-5)
    assert layer.B.abs().min() > 0


@pytest.mark.parametrize("seed", SEEDS)
def test_a_switch_keeps_the_outputs_and_resets_the_counterpart_alone(seed):
    made, layer, _ = one(seed)
    optimizer = made.optimizer(lr=1e-2)
    for i in range(4):
        step(layer, optimizer, i)
    before, old = layer.dense().detach().clone(), layer.A[0].detach().clone()
    moments = {name: optimizer.state[layer.B][name].clone() for name in ("exp_avg", "exp_avg_sq", "step")}
    of_a = {name: value.clone() for name, value in optimizer.state[layer.A].items()}
    candidate = layer.pool_a[0].clone()
    layer._switch(0, "A", optimizer)
    torch.testing.assert_close(layer.dense(), before, atol=1e-6, rtol=0)
    torch.testing.assert_close(layer.A[0], candidate, atol=0, rtol=0)
    torch.testing.assert_close(layer.pool_a[0], old, atol=0, rtol=0)
    state = optimizer.state[layer.B]
    assert state["exp_avg"][:, 0].abs().sum() == state["exp_avg_sq"][:, 0].abs().sum() == 0
    assert state["step"].tolist() == [0, 4]
    assert state["pause"].tolist() == [5, 0]
    for name in ("exp_avg", "exp_avg_sq"):
        assert torch.equal(state[name][:, 1], moments[name][:, 1])
    for name, value in of_a.items():
        assert torch.equal(optimizer.state[layer.A][name], value)


def test_the_counterpart_stands_still_for_the_pause():
    made, layer, _ = one(0, pause=3)
    optimizer = made.optimizer(lr=1e-2)
    step(layer, optimizer)
    layer._switch(0, "A", optimizer)
    still, other = layer.B[:, 0].detach().clone(), layer.B[:, 1].detach().clone()
    for _ in range(3):
        step(layer, optimizer)
        assert torch.equal(layer.B[:, 0], still)
    assert not torch.equal(layer.B[:, 1], other)
    step(layer, optimizer)
    assert not torch.equal(layer.B[:, 0], still)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_update_reaches_more_than_r_ranks(seed):
    made, layer, weight = one(seed, interval=10.0, ratio=10.0)
    optimizer, switched = made.optimizer(lr=3e-2), 0
    for i in range(60):
        step(layer, optimizer)
        switched += made.after_step(i + 1, 60, optimizer)
    assert switched >= 4
    change = torch.linalg.svdvals((layer.dense() - weight).detach())
    assert int((change > 1e-4 * change[0]).sum()) > 2


def test_switching_becomes_rarer_as_the_rule_says():
    _, layer, _ = one(0, rank=8)

    def mean(at):
        draws = (layer.switches(at, 1000, torch.Generator().manual_seed(i)) for i in range(4000))
        return sum(draws) / 4000

    assert mean(0) == pytest.approx(8 / 40, rel=0.15)
    assert mean(100) == pytest.approx(0.3 * 8 / 40, rel=0.25)
    assert math.isclose(mean(10_000), 0)


def test_the_two_factors_are_half_a_round_apart():
    _, layer, _ = one(0, rank=6)
    assert layer.turns.tolist() == [0, 0, 3, 0]


def test_rows_without_a_reset_step_as_adamw_does():
    torch.manual_seed(0)
    ours, theirs = nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.zeros(4, 3))
    theirs.data.copy_(ours)
    options = {"lr": 0.05, "weight_decay": 0.1, "betas": (0.8, 0.95)}
    mine, peer = RowAdamW([ours], {ours: 0}, **options), torch.optim.AdamW([theirs], **options)
    for _ in range(20):
        grad = torch.randn(4, 3)
        ours.grad, theirs.grad = grad.clone(), grad.clone()
        mine.step()
        peer.step()
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def test_a_row_that_began_anew_steps_as_a_new_parameter():
    torch.manual_seed(0)
    whole, fresh = nn.Parameter(torch.randn(2, 3)), nn.Parameter(torch.zeros(3))
    optimizer, peer = RowAdamW([whole], {whole: 0}, lr=0.1), torch.optim.AdamW([fresh], lr=0.1, weight_decay=0)
    for i in range(6):
        if i == 3:
            optimizer.begin_slice(whole, 1, pause=0)
            fresh.data.copy_(whole[1])
        grad = torch.randn(2, 3)
        whole.grad, fresh.grad = grad, grad[1].clone()
        optimizer.step()
        if i >= 3:
            peer.step()
    torch.testing.assert_close(whole[1], fresh, atol=1e-6, rtol=1e-5)


def test_another_optimizer_and_impossible_intervals_are_refused():
    made, layer, _ = one(0)
    step(layer, torch.optim.SGD(layer.parameters(), lr=0.1))
    with pytest.raises(UsageError, match="RowAdamW"):
        made.after_step(1, 10, torch.optim.SGD(layer.parameters(), lr=0.1))
    for options in ({"interval": 9.0}, {"interval": 0.5, "pause": 0}, {"ratio": 0.0}, {"pause": -1}):
        with pytest.raises(UsageError):
            one(0, **options)
    with pytest.raises(UsageError, match="no slices"):
        RowAdamW(layer.parameters(), {}).begin_slice(layer.A, 0, 1)
