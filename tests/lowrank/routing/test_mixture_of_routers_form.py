"""Mixture of routers: weights that sum to 1, a plain mixture at one sub-router, and a corrupted one loses its vote."""

import math

import pytest
import torch
from torch import nn

from lorank import lowrank


def mixture(width=6, out=5, rank=2, **options):
    torch.manual_seed(0)
    model = nn.ModuleDict({"layer": nn.Linear(width, out).double()})
    adapter = lowrank.attach(model, "mixture-of-routers", rank=rank, options=options)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.normal_()
    return model["layer"], adapter, adapter.forms["layer"]


def test_mixture_of_routers_weights_and_scores_sum_to_1():
    _, _, form = mixture(experts=4, top=2, routers=3)
    weights, scores = form.votes(torch.randn(7, 6).double())
    assert weights.shape == (7, 3)
    assert scores.shape == (7, 4)
    for part in (weights, scores):
        torch.testing.assert_close(part.sum(-1), torch.ones(7).double())


def test_one_sub_router_is_a_plain_mixture_of_lora_experts():
    layer, _, form = mixture(experts=4, top=2, routers=1)
    x = torch.randn(7, 6).double()
    for row in x:
        p = (form.sub_routers[0] @ row).softmax(0)
        best = p.topk(2)
        update = sum(
            value * (form.B[e] @ (form.A[e] @ row))
            for value, e in zip(best.values / best.values.sum(), best.indices.tolist(), strict=True)
        )
        torch.testing.assert_close(layer(row.unsqueeze(0))[0], layer.base(row) + update)


def test_the_balance_is_1_where_all_experts_are_used_alike_and_more_elsewhere():
    layer, _, form = mixture(width=4, experts=4, top=1, routers=1, balance=1.0)
    layer.train()
    with torch.no_grad():
        form.sub_routers.copy_(50 * torch.eye(4).unsqueeze(0))
    layer(torch.eye(4).double())
    torch.testing.assert_close(form.penalty(), torch.ones(()).double())
    layer(torch.eye(4)[:1].double().expand(8, 4))
    assert form.penalty() > 3.9


def test_a_corrupted_sub_router_is_weighed_down():
    """Two experts that are right for one half of the inputs each; one sub-router knows which, one says the opposite."""
    layer, _, form = mixture(width=6, out=2, rank=1, experts=2, top=1, routers=2, balance=0.0)
    torch.manual_seed(1)
    x = torch.randn(200, 6).double()
    side = (x[:, 0] > 0).double()
    with torch.no_grad():
        form.A.copy_(torch.eye(6)[1].view(1, 1, 6).expand(2, 1, 6))
        form.B[0].copy_(torch.tensor([[1.0], [0.0]]))
        form.B[1].copy_(torch.tensor([[0.0], [1.0]]))
        knows = 4 * torch.stack([-torch.eye(6)[0], torch.eye(6)[0]])
        form.sub_routers.copy_(torch.stack([knows, -knows]))
        form.main_router.zero_()
        form.main_router[:, 2] = torch.tensor([0.01, 0.0])
    x[:, 2] = 1.0
    wanted = torch.stack([x[:, 1] * (1 - side), x[:, 1] * side], 1)
    form.top = 2  # all experts, so that the weights have a gradient everywhere
    optimizer = torch.optim.Adam([form.main_router], lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        (layer(x) - layer.base(x) - wanted).square().mean().backward()
        optimizer.step()
    weights, _ = form.votes(x)
    assert weights[:, 1].mean() < 0.1


@pytest.mark.by_hand("mixture-of-routers")
@pytest.mark.parametrize(("top", "y"), [(2, [[0.375, 1.25]]), (1, [[0.0, 2.0]])])
def test_two_by_three_by_hand(one_layer, set_tensors, top, y):
    options = {"experts": 2, "routers": 2, "top": top}
    model, form = one_layer([[0.0] * 3, [0.0] * 3], "mixture-of-routers", rank=1, options=options)
    log3, none = [math.log(3), 0.0, 0.0], [0.0] * 3
    set_tensors(form, A=[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], B=[[1.0, 0.0], [0.0, 1.0]])
    set_tensors(form, main_router=[none, log3], sub_routers=[[log3, none], [none, log3]])
    # w = (1/4, 3/4); votes (3/4, 1/4) and (1/4, 3/4): p = (3/8, 5/8); the experts give (1, 0) and (0, 2)
    expected = torch.tensor(y).double()
    torch.testing.assert_close(model["layer"](torch.tensor([[1.0, 2.0, 0.0]], dtype=torch.float64)), expected)
