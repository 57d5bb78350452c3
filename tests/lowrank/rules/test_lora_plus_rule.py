"""LoRA+: two rates in an exact ratio, AdamW at ratio 1, and features that keep moving as the width grows."""

import math

import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.lowrank.rules import make_rule


def test_lora_plus_has_two_groups_with_an_exact_ratio(tower):
    adapter = lowrank.attach(tower(), rank=2, trained=["head"])
    slow, fast = lowrank.optimizer("lora-plus", adapter, lr=0.003, ratio=16.0).param_groups
    assert [slow["lr"], fast["lr"]] == pytest.approx([0.003, 16.0 * 0.003])
    assert {id(p) for p in fast["params"]} == {id(form.B) for form in adapter.forms.values()}
    assert len(slow["params"]) == 3 + 2  # every A, and the head's weight and bias


def test_a_groups_own_rate_is_multiplied(tower):
    from lorank.lowrank.rules import Rates

    adapter = lowrank.attach(tower(), rank=2)
    factors = [p for form in adapter.forms.values() for p in (form.A, form.B)]
    groups = [{"params": factors[:2]}, {"params": factors[2:], "lr": 0.5}]
    optimizer = make_rule("lora-plus", ratio=2.0).optimizer(groups, adapter, Rates(0.1))
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1, 0.2, 0.5, 1.0])


def test_ratio_1_is_adamw(tower, walk):
    states = []
    for name, options in (("adamw", {}), ("lora-plus", {"ratio": 1.0})):
        model = tower()
        adapter = lowrank.attach(model, rank=2, trained=["head"])
        walk(adapter, make_rule(name, **options), lambda step, model=model: model(torch.ones(3, 6)).square().sum(), 5)
        states.append(adapter.state())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def moves(width, lr, ratio):
    """How much each factor's second step moves the features B A x: (B dA x, dB A x), root mean squares."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"layer": nn.Linear(width, width, bias=False)})
    adapter = lowrank.attach(model, rank=4)
    form = adapter.forms["layer"]
    optimizer = lowrank.optimizer("lora-plus", adapter, lr=lr, ratio=ratio)
    x, signal = torch.randn(width), torch.randn(width)
    for _ in range(2):
        A, B = form.A.detach().clone(), form.B.detach().clone()
        optimizer.zero_grad()
        (model["layer"](x) @ signal).backward()
        optimizer.step()
    by_A, by_B = B @ ((form.A - A) @ x), (form.B - B) @ (A @ x)
    return [float(move.detach().square().mean().sqrt()) for move in (by_A, by_B)]


@pytest.mark.parametrize(
    ("ratio", "exponents"),
    [(lambda n: n, (0, 0)), (lambda n: 1.0, (-1, -1))],
    ids=["ratio grows with the width", "one rate"],
)
def test_both_factors_move_the_features_alike_at_any_width_only_with_the_ratio(ratio, exponents):
    widths = [64, 256, 1024, 4096]
    sizes = torch.tensor([moves(n, lr=1.0 / n, ratio=ratio(n)) for n in widths])
    slopes = (sizes[-1] / sizes[0]).log() / math.log(widths[-1] / widths[0])
    torch.testing.assert_close(slopes, torch.tensor(exponents).float(), atol=0.2, rtol=0)


def test_a_larger_common_rate_cannot_move_both():
    """At eta_A = eta_B = n^-1/2 the move by A is of size 1 and that by B fades as n^-1/2."""
    small, large = (moves(n, lr=n**-0.5, ratio=1.0) for n in (64, 4096))
    assert 0.5 < large[0] / small[0] < 2
    assert large[1] / small[1] < 0.25
