"""Polyak's step with momentum: the classical step at beta = 0, and an ill-conditioned quadratic."""

import pytest
import torch
from torch import nn

from lorank.errors import UsageError
from lorank.lowrank.rules import Rates, make_rule
from lorank.lowrank.rules.polyak_momentum import PolyakMomentumOptimizer

CURVATURE = torch.logspace(0, -2, 10).double()  # condition number 100


def descend(beta, steps, lr=1e3, c=1.0, optimizer=None):
    """Values of sum(CURVATURE x^2) / 2 on the way from x = 1."""
    x = nn.Parameter(torch.ones(10).double())
    optimizer = optimizer([x]) if optimizer else PolyakMomentumOptimizer([x], Rates(lr, (beta, 0.0)), c, 0.0)
    values = []
    for _ in range(steps):
        optimizer.zero_grad()
        value = (CURVATURE * x.square()).sum() / 2
        value.backward()
        values.append(value.item())
        optimizer.step(lambda value=value: value)
    return torch.tensor(values)


def test_beta_0_is_polyaks_own_step():
    x = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimizer = PolyakMomentumOptimizer([x], Rates(1e3, (0.0, 0.0)), 1.0, -1.0)
    for _ in range(3):
        before = x.detach().clone()
        value, slope = (before**2).sum() + 3, 2 * before
        x.grad = slope.clone()
        optimizer.loss = value.item()
        optimizer.step()
        torch.testing.assert_close(x.detach(), before - (value + 1) / slope.square().sum() * slope)


def test_lr_is_the_largest_step():
    values = descend(0.0, 2, lr=0.01)
    assert abs(values[1] - ((CURVATURE * (1 - 0.01 * CURVATURE).square()).sum() / 2).item()) < 1e-12


BETAS = (0.0, 0.3, 0.6, 0.9, 0.95)


def rises(values):
    """By how much the loss went up on the way, in units of where it began."""
    return float((values[1:] - values[:-1]).clamp_min(0).sum() / values[0])


@pytest.mark.parametrize("beta", BETAS)
def test_polyak_momentum_converges_on_an_ill_conditioned_quadratic_without_oscillation(beta):
    values = descend(beta, 400)
    assert values[-1] < 1e-4 * values[0]
    assert rises(values) < 0.1


def test_beta_matters_less_than_at_a_fixed_rate():
    """Heavy ball at the best rate for beta = 0 swings ever more as beta grows; Polyak's step does not."""
    fixed = [
        rises(descend(0, 400, optimizer=lambda x, beta=beta: torch.optim.SGD(x, lr=1.9, momentum=beta)))
        for beta in BETAS
    ]
    ours = [rises(descend(beta, 400)) for beta in BETAS]
    assert max(fixed) > 4
    assert max(ours) < 0.02 * max(fixed)


def test_without_a_loss_it_says_what_is_missing():
    x = nn.Parameter(torch.ones(1))
    x.grad = torch.ones(1)
    with pytest.raises(UsageError, match="depends on the loss"):
        PolyakMomentumOptimizer([x], Rates(0.1), 1.0, 0.0).step()
    with pytest.raises(UsageError, match="c 0"):
        make_rule("polyak-momentum", c=0.0)
