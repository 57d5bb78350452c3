"""Fast Forward: it stops at the first rise, keeps the lowest point, and saves gradients in a valley."""

import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.errors import UsageError
from lorank.lowrank.rules import make_rule


def counted(values):
    """A held-out loss that gives ``values`` in turn."""
    left = iter(values)
    return lambda index: torch.tensor(next(left))


@pytest.mark.parametrize(
    ("values", "repeats"), [([1.0, 2.0], 0), ([1.0, 1.0], 0), ([3.0, 2.0, 1.0, 1.5], 2), ([3.0, 2.0, float("nan")], 1)]
)
def test_fast_forward_stops_at_the_first_rise_and_keeps_the_best_point(values, repeats, tower, walk):
    x, plain, model = torch.ones(3, 6), tower(), tower()
    once = lowrank.attach(plain, rank=2)
    start = {key: tensor.clone() for key, tensor in once.state().items()}
    walk(once, make_rule("adamw"), lambda step: plain(x).sum(), 1)
    adapter = lowrank.attach(model, rank=2)
    rule = make_rule("fast-forward", interval=1)
    walk(adapter, rule, lambda step: model(x).sum(), 1, held_out=counted(values))
    assert (rule.repeated, rule.tries) == (repeats, len(values))
    for key, tensor in adapter.state().items():
        step = once.state()[key] - start[key]
        torch.testing.assert_close(tensor, start[key] + (1 + repeats) * step, atol=1e-6, rtol=1e-6)
        if repeats == 0:
            assert torch.equal(tensor, once.state()[key])


def test_in_a_quadratic_valley_it_needs_fewer_gradients(open_walk):
    needed = {}
    for name, options in (("adamw", {}), ("fast-forward", {"interval": 6})):
        torch.manual_seed(0)
        model = nn.ModuleDict({"layer": nn.Linear(12, 8, bias=False).double()})
        target = model["layer"].weight.detach() + torch.outer(torch.randn(8), torch.randn(12)).double()
        adapter = lowrank.attach(model, rank=2)

        def loss(step, layer=model["layer"], target=target):
            return (layer(torch.eye(12).double()).t() - target).square().sum()

        goal = 0.02 * float(loss(0).detach())
        run = open_walk(adapter, make_rule(name, **options), loss, of=3000, lr=3e-3)
        while float(loss(0).detach()) > goal:
            run.go(1)
        needed[name] = run.at
    assert needed["fast-forward"] < 0.5 * needed["adamw"]


def test_off_it_is_adam(tower, walk):
    states = []
    for rule in (make_rule("adamw"), make_rule("fast-forward", most=0)):
        model = tower()
        adapter = lowrank.attach(model, rank=2)
        walk(adapter, rule, lambda step, model=model: model(torch.ones(3, 6)).square().sum(), 13)
        states.append(adapter.state())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_without_held_out_lists_it_says_so(tower):
    from lorank.lowrank.rules import Losses

    rule, optimizer = make_rule("fast-forward"), torch.optim.SGD([nn.Parameter(torch.ones(1))])
    with pytest.raises(UsageError, match="not trained on"):
        rule.begin(lowrank.attach(tower()), optimizer, 5, Losses(lambda step: None))
