"""Chain of LoRA: the merge changes nothing but the start of what follows, ranks add up, W0 is never touched."""

import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.errors import UsageError
from lorank.lowrank.rules import make_rule


def teacher(links, rank=2, steps=240, seed=0):
    """A layer that learns a full-rank change of itself."""
    torch.manual_seed(seed)
    model = nn.ModuleDict({"layer": nn.Linear(10, 8, bias=False).double()})
    target = model["layer"].weight.detach() + torch.randn(8, 10).double()
    adapter = lowrank.attach(model, rank=rank)

    def loss(step):
        return (model["layer"](torch.eye(10).double()).t() - target).square().sum()

    loss.residual = target - model["layer"].base.weight
    return model, adapter, make_rule("chain-of-lora", links=links), loss, steps


def test_the_forward_pass_is_continuous_at_the_merge_and_the_moments_are_gone(open_walk):
    model, adapter, rule, loss, steps = teacher(3)
    run = open_walk(adapter, rule, loss, steps, lr=0.02).go(79)
    form, x = adapter.forms["layer"], torch.randn(4, 10).double()
    captured = {}
    inner = rule.after_step

    def watched(step, of):
        captured["before"], captured["A"] = model["layer"](x).detach(), form.A.detach().clone()
        inner(step, of)

    rule.after_step = watched
    run.go(1)
    torch.testing.assert_close(model["layer"](x), captured["before"], atol=1e-12, rtol=1e-12)
    assert torch.equal(form.A0[:2], captured["A"])
    assert form.B.abs().max() == 0
    assert not torch.equal(form.A, captured["A"])
    assert not run.optimizer.state


def test_the_residual_to_a_full_rank_teacher_falls_each_link_and_ranks_add_up(open_walk):
    model, adapter, rule, loss, steps = teacher(4, steps=600)
    base = model["layer"].base.weight.detach().clone()
    run = open_walk(adapter, rule, loss, steps, lr=0.05)
    residuals = [float(loss(0).detach())]
    for link in range(1, 5):
        run.go(150)
        residuals.append(float(loss(0).detach()))
        assert torch.linalg.matrix_rank(model["layer"].delta(), rtol=1e-8) == min(2 * link, 8)
        assert residuals[-1] < 0.7 * residuals[-2]
    assert adapter.forms["layer"].rank_bound() == 8
    assert torch.equal(model["layer"].base.weight, base)


def test_a_best_rank_r_update_is_passed(open_walk):
    """One LoRA of rank 2 cannot come nearer than the tail of the spectrum; two links of rank 2 do."""
    tail = torch.linalg.svdvals(teacher(1)[3].residual)[2:].square().sum()
    one, two = (teacher(links, steps=600) for links in (1, 2))
    for _, adapter, rule, loss, steps in (one, two):
        open_walk(adapter, rule, loss, steps, lr=0.05).go(steps)
    assert one[3](0) >= tail * (1 - 1e-9)
    assert two[3](0) < 0.8 * tail


@pytest.mark.parametrize("format", ["peft", "portable"])
def test_saving_and_exporting_are_against_the_original_weights(format, tower, walk, tmp_path):
    model, x = tower(), torch.ones(3, 6)
    adapter = lowrank.attach(model, rank=2, alpha=3.0, targets=["wide", "narrow"])
    walk(adapter, make_rule("chain-of-lora", links=3), lambda step: (model(x) - 1).square().sum(), 12)
    adapter.save(tmp_path / "own")
    adapter.export(tmp_path / "export", format)
    for folder in ("own", "export"):
        fresh = tower()
        lowrank.load(fresh, tmp_path / folder)
        torch.testing.assert_close(fresh(x), model(x), atol=1e-6, rtol=1e-6)


def test_a_start_that_took_something_out_of_w_keeps_it_out(tower, walk):
    model, x = tower(), torch.ones(3, 6)
    before = model(x)
    adapter = lowrank.attach(model, "pissa", rank=2, targets=["wide", "narrow"])
    walk(adapter, make_rule("chain-of-lora", links=2), lambda step: 0 * model(x).sum(), 4)
    torch.testing.assert_close(model(x), before, atol=1e-5, rtol=1e-5)


def test_links_below_one():
    with pytest.raises(UsageError, match="links 0"):
        make_rule("chain-of-lora", links=0)
