"""LoFT: AdamW on W at full rank, and a scale that has no say."""

from functools import partial

import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.lowrank.rules import make_rule


def squares(rank, alpha, start=None, seed=0, width=6):
    """A regression on one square layer; with ``start`` B begins there and W0 without it."""
    torch.manual_seed(seed)
    model = nn.ModuleDict({"layer": nn.Linear(width, width, bias=False).double()})
    W = model["layer"].weight.detach().clone()
    x, target = torch.randn(40, width).double(), torch.randn(width, width).double()
    adapter = lowrank.attach(model, rank=rank, alpha=alpha)
    form = adapter.forms["layer"]
    if start is not None:
        with torch.no_grad():
            form.B.copy_(start / form.scaling)
            model["layer"].base.weight -= form.scaling * form.B @ form.A

    def loss_of(layer, step):
        index = torch.arange(40) % 4 == step % 4
        return (layer(x[index]) - x[index] @ target.t()).square().mean()

    return model, adapter, W, loss_of


def test_loft_at_full_rank_moves_w_as_adamw_does(walk):
    start = torch.randn(6, 6, generator=torch.Generator().manual_seed(5)).double()
    model, adapter, W, loss_of = squares(6, 6.0, start)
    layer = model["layer"]
    rule = make_rule("loft", damping=0.0, clip=None)
    ours = walk(adapter, rule, lambda step: loss_of(layer, step), 0, of=40, lr=0.01)
    weight = W.clone().requires_grad_()
    adamw = torch.optim.AdamW([weight], lr=0.01, weight_decay=0.0)
    for step in range(40):
        ours.go(1)
        adamw.zero_grad()
        loss_of(lambda x: x @ weight.t(), step).backward()
        adamw.step()
        torch.testing.assert_close(layer.base.weight + layer.delta(), weight.detach(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("clip", [None, 0.5])
def test_alpha_has_no_effect(clip, walk):
    deltas = []
    for alpha in (1.0, 16.0):
        model, adapter, _, loss_of = squares(3, alpha)
        walk(adapter, make_rule("loft", clip=clip), partial(loss_of, model["layer"]), 12, lr=0.02)
        deltas.append(model["layer"].delta())
    torch.testing.assert_close(*deltas, atol=1e-9, rtol=1e-9)
    assert deltas[0].norm() > 0.1


def test_clipping_bounds_the_projected_gradient_whatever_the_scale(walk):
    model, adapter, _, loss_of = squares(3, 3.0)
    run = walk(adapter, make_rule("loft", clip=1e-3), partial(loss_of, model["layer"]), 1, of=9, betas=(0.0, 0.0))
    form = adapter.forms["layer"]
    projected = run.optimizer.state[form.B]["first"] @ form.A
    torch.testing.assert_close(projected.norm(), torch.tensor(1e-3, dtype=torch.float64))


def test_the_second_moment_is_the_mean_square_of_the_projected_gradient(given):
    from lorank.lowrank.rules.loft import products

    A, B, G = ([[1.0, 2.0, 0.0], [0.0, 1.0, -1.0]], [[1.0, 0.0], [2.0, 1.0]], [[1.0, -1.0, 3.0], [0.5, 2.0, -1.0]])
    problem = given(A, B, G)
    run = problem.step(make_rule("loft", damping=0.0, clip=None), lr=0.0, betas=(0.9, 0.99))
    state = run.optimizer.state[problem.form.B]
    tA, tG = torch.tensor(A).double(), torch.tensor(G).double()
    onto = tA.t() @ torch.linalg.inv(tA @ tA.t()) @ tA
    second = state["second"] @ products(tA.t(), weigh=True).t()
    torch.testing.assert_close(second, (1 - 0.99) * (tG @ onto).square())
