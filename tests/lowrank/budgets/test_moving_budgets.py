"""IncreLoRA, ElaLoRA, TriAdaptLoRA, ALoRA, DyLoRA, QDyLoRA: what each shows beyond the contract."""

import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.errors import UsageError
from lorank.lowrank.budgets import make_budget
from lorank.lowrank.budgets.core.settle import settle
from lorank.lowrank.budgets.dylora import truncate
from lorank.lowrank.quantised import LEVELS, QuantisedLinear

X = torch.randn(5, 4, 8, generator=torch.Generator().manual_seed(9))


def test_increlora_turns_on_a_warmed_component_without_a_change(toy):
    run = toy("increlora", total=8).run(until=8)
    form = run.adapter.forms["planted"]
    rank = run.budget.ranks()["planted"]
    warmed = form.A[rank].clone()
    before = run.model(X)
    run.budget._warm = lambda form: None
    run.budget.grow("planted", 8)
    assert torch.equal(run.model(X), before)
    assert torch.equal(form.A[rank], warmed)
    assert run.budget.ranks()["planted"] == rank + 1


def test_increlora_trains_the_component_to_come(toy):
    run = toy("increlora", orthogonal=0.0)
    first = run.adapter.forms["planted"].A[1].clone()
    run.run(until=5)
    assert not torch.equal(run.adapter.forms["planted"].A[1], first)


def test_increlora_total_is_met_and_planted_has_most(toy):
    run = toy("increlora", total=9).run()
    assert sum(run.ranks[-1].values()) == 9
    assert all(run.ranks[-1]["planted"] > rank for path, rank in run.ranks[-1].items() if path != "planted")
    with pytest.raises(UsageError, match="below one for each of 4 layers"):
        toy("increlora", total=3)


@pytest.mark.parametrize("name", ["elalora", "alora-allocate", "triadaptlora"])
def test_a_grown_component_leaves_the_forward_as_it_was(name, toy):
    run = toy(name).run(until=6)
    form = run.adapter.forms["planted"]
    before = run.model(X)
    off = int((~form.on).nonzero()[0])
    form.renew(off, 6)
    assert form.on[off]
    torch.testing.assert_close(run.model(X), before, atol=1e-6, rtol=1e-5)
    run.loss(0).backward()
    assert form.gate.grad is None or form.gate.grad[off] != 0 or form.B.grad[:, off].any()


def test_elalora_moves_ranks_to_the_planted_layer_and_keeps_the_sum(toy):
    run = toy("elalora", total=8).run()
    assert {sum(ranks.values()) for ranks in run.ranks} == {8}
    assert run.ranks[-1]["planted"] == 4
    assert run.ranks[0]["planted"] == 2


def test_triadaptlora_triangles_hold_after_every_step(toy):
    run = toy("triadaptlora", total=9)
    for step in range(1, 61):
        run.run(until=step)
        for form in run.adapter.forms.values():
            assert torch.equal(form.A, form.A.triu())
            assert torch.equal(form.B, form.B.tril())
        assert sum(run.ranks[-1].values()) <= 9
    assert sum(run.ranks[-1].values()) == 9


def test_triadaptlora_importance_is_the_norm_of_the_increment(toy):
    run = toy("triadaptlora", total=9).run(until=10)
    forms = run.adapter.forms
    before = {path: form.delta(None) for path, form in forms.items()}
    run.run(until=13)
    norms = {path: (form.delta(None) - before[path]).norm() for path, form in forms.items()}
    largest = max(norms.values())
    for path, value in run.budget.layer_importance().items():
        assert value == pytest.approx(float(norms[path] / largest), abs=1e-4)


def test_alora_worth_of_a_harmful_rank_is_negative(toy):
    run = toy("alora-allocate", sample=None, every=50).run(until=30)
    form = run.adapter.forms["planted"]
    free = int((~form.on).nonzero()[0])
    form.renew(free, 30)
    with torch.no_grad():
        form.B[:, free] = 3.0
    worths = run.budget.worth([("planted", i) for i in form.on.nonzero().flatten().tolist()], 0)
    assert worths["planted", free] == min(worths.values())
    removed = -run.loss(20_000).item()
    with run.budget.masked({("planted", free)}, only=False):
        gain = -run.loss(20_000).item() - removed
    with run.budget.masked({("planted", free)}, only=True):
        alone = -run.loss(20_000).item()
    with run.adapter.disabled():
        nothing = -run.loss(20_000).item()
    assert gain > 0
    assert alone < nothing
    assert worths["planted", free] == pytest.approx(-gain + alone, abs=1e-5)


def test_alora_moves_ranks_even_where_fewer_are_measured_than_it_would_exchange(toy):
    run = toy("alora-allocate", sample=4, exchange=100, total=8).run()
    assert any(len(set(ranks.values())) > 1 for ranks in run.ranks)
    assert all(sum(ranks.values()) == 8 for ranks in run.ranks)


def test_alora_removed_ranks_are_gone_and_the_sum_stays(toy):
    run = toy("alora-allocate", sample=None, total=8).run()
    assert {sum(ranks.values()) for ranks in run.ranks} == {8}
    assert run.ranks[-1]["planted"] > 2
    settled = sum(form.rank for form in settle(run.adapter).forms.values())
    assert settled == 8


def test_dylora_truncated_is_the_training_forward(toy):
    run = toy("dylora", rank=4).run()
    for b in (1, 2, 3, 4):
        step = next(step for step in range(100) if run.budget.sampled_rank(step) == b)
        run.budget.before_step(step, run.steps)
        training = run.model(X)
        form = run.adapter.forms["planted"]
        base = run.adapter.layers["planted"].base
        by_hand = base(X[:, 2]) + (4 / b) * X[:, 2] @ form.A[:b].T @ form.B[:, :b].T
        torch.testing.assert_close(training[:, 2], by_hand)
        for each in run.adapter.forms.values():
            truncate(each, 4)
            truncate(each, b)
        assert torch.equal(run.model(X), training)
        assert len(form.as_lora().A) == b


def test_dylora_is_close_to_a_lora_at_every_rank(toy):
    run = toy("dylora", rank=4, steps=300, change=4, lr=0.02).run()
    for b in (1, 4):
        alone = toy("dylora", rank=4, steps=300, change=4, lr=0.02, lowest=4)
        for each in alone.adapter.forms.values():
            truncate(each, b)
        for step in range(300):
            alone.loss(step).backward()
            alone.optimizer.step()
            alone.optimizer.zero_grad(set_to_none=True)
        for each in run.adapter.forms.values():
            truncate(each, b)
        with run.adapter.disabled():
            base = -run.metric()
        assert -run.metric() < -alone.metric() + 0.2 * base


def test_dylora_frozen_moves_only_component_b(toy):
    run = toy("dylora", rank=4, frozen=True)
    run.run(until=3)
    for step in range(3, 9):
        before = {path: (form.A.clone(), form.B.clone()) for path, form in run.adapter.forms.items()}
        run.run(until=step + 1)
        b = run.budget.sampled_rank(step)
        for path, form in run.adapter.forms.items():
            moved = form.A.ne(before[path][0]).any(1) | form.B.ne(before[path][1]).any(0)
            assert moved.nonzero().flatten().tolist() == [b - 1]


def test_dylora_cuts_to_a_total(toy):
    run = toy("dylora", rank=4, total=6).run()
    assert run.ranks[-1] == {"first": 2, "second": 2, "planted": 1, "fourth": 1}


def test_qdylora_base_is_four_bit_and_any_rank_is_there(toy):
    run = toy("qdylora", rank=4, choices="1,2,4")
    codes = {path: layer.base.codes.clone() for path, layer in run.adapter.layers.items()}
    run.run()
    assert {run.budget.sampled_rank(step) for step in range(60)} == {1, 2, 4}
    for path, layer in run.adapter.layers.items():
        assert type(layer.base) is QuantisedLinear
        assert layer.base.scheme == "nf4"
        assert layer.base.codes.numel() * 2 == -(-48 // 64) * 64
        assert torch.equal(layer.base.codes, codes[path])
    assert not [parameter for parameter in run.adapter.parameters() if parameter.shape == (6, 8)]
    with run.adapter.disabled():
        base = run.metric()
    for b in (1, 2, 3, 4):
        for form in run.adapter.forms.values():
            truncate(form, b)
        assert run.metric() > base
    with pytest.raises(UsageError, match="choices"):
        toy("qdylora", choices="9")
    with pytest.raises(UsageError, match="choices"):
        toy("qdylora", choices="one")


def test_nf4_round_trip_is_within_half_the_widest_gap():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(32, 64, generator=generator)
    rounded = QuantisedLinear(weight, None, "nf4").weight
    largest = weight.view(-1, 64).abs().amax(1, keepdim=True)
    widest = (LEVELS[1:] - LEVELS[:-1]).max() / 2
    assert ((rounded - weight).view(-1, 64).abs() <= largest * widest + 1e-6).all()


def test_qdylora_loads_on_a_base_that_it_quantises(tmp_path):
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(8, 6))
    import copy

    model = copy.deepcopy(base)
    adapter = lowrank.attach(model, "qdylora", rank=2)
    with torch.no_grad():
        adapter.forms["0"].B.normal_()
    adapter.save(tmp_path / "adapter")
    fresh = copy.deepcopy(base)
    lowrank.load(fresh, tmp_path / "adapter")
    torch.testing.assert_close(fresh(X[:, 0]), model(X[:, 0]))
    budget = make_budget("qdylora", adapter.forms)
    assert budget.ranks() == {"0": 2}
