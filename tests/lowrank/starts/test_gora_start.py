"""GoRA: a 2x3 example worked by hand, the best step in A's row space, and ranks by importance."""

import pytest
import torch
from torch import nn

from lorank import lowrank


@pytest.mark.by_hand("gora")
def test_two_by_three_by_hand(one_layer):
    gradient = torch.tensor([[1.0, 2.0, 3.0], [0.0, 1.0, 0.0]])
    W = [[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]]
    model, form = one_layer(W, "gora", rank=1, statistics={"layer": {"gradient": gradient}})
    a = form.A.detach()
    eta = 1e-2 * 3**0.5
    # onto one row a: s B a = -eta G a^T a / |a|^2
    expected = -eta * gradient.double() @ a.T @ a / a.square().sum()
    torch.testing.assert_close(form.delta(model["layer"].weight), expected)


def test_the_rest_of_the_gradient_is_orthogonal_to_a_and_the_first_loss_is_lower(tower):
    model, x = tower(torch.float64), torch.randn(9, 6, generator=torch.Generator().manual_seed(0)).double()
    loss = model(x).square().mean()
    gradient = torch.autograd.grad(loss, model.wide.weight)[0]
    adapter = lowrank.attach(
        model, "gora", rank=3, targets=["wide"], alpha=6.0, statistics={"wide": {"gradient": gradient}}
    )
    form = adapter.forms["wide"]
    eta = 1e-2 * (6 / form.rank) ** 0.5
    residual = gradient + form.delta(model.wide.base.weight) / eta
    torch.testing.assert_close((residual @ form.A.T).detach(), torch.zeros(10, form.rank).double())
    assert model(x).square().mean() < loss


def test_ranks_follow_the_importance_and_sum_to_the_budget():
    model = nn.ModuleDict({name: nn.Linear(16, 16, dtype=torch.float64) for name in ("small", "middle", "large")})
    sizes = {"small": 0.01, "middle": 1.0, "large": 4.0}
    generator = torch.Generator().manual_seed(0)
    seen = {
        name: {"gradient": size * torch.randn(16, 16, generator=generator).double()} for name, size in sizes.items()
    }
    adapter = lowrank.attach(model, "gora", rank=4, statistics=seen)
    ranks = {path: form.rank for path, form in adapter.forms.items()}
    assert sum(ranks.values()) == 12
    assert ranks["small"] == 2
    assert ranks["small"] <= ranks["middle"] < ranks["large"]
