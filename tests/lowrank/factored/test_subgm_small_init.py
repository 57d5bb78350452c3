"""Sub-gradients from a small start: a matrix under gross outliers, whatever the rank (pretrain.lowrank)."""

from statistics import median

import pytest
import torch
from torch import nn

from factored_layers import linear
from lorank.errors import UsageError
from lorank.lowrank.factored import make_factored
from lorank.lowrank.factored.subgm_small_init import SubgradientOptimizer
from lorank.lowrank.rules.rule import Pair, Rates

SEEDS = (0, 1, 2)
SIZE, TRUE_RANK, MEASUREMENTS, STEPS = 20, 2, 1200, 200


def recover(seed, rank, loss="l1", outliers=0.3, **options):
    """The relative error of a layer that is learned from linear measurements of a matrix, some grossly wrong."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randn(SIZE, TRUE_RANK, generator=generator) @ torch.randn(TRUE_RANK, SIZE, generator=generator)
    truth /= SIZE**0.5
    maps = torch.randn(MEASUREMENTS, SIZE * SIZE, generator=generator)
    seen = maps @ truth.flatten()
    wrong = torch.randperm(MEASUREMENTS, generator=generator)[: int(outliers * MEASUREMENTS)]
    seen[wrong] += 10 * seen.std() * torch.randn(len(wrong), generator=generator)
    model = nn.Sequential(linear(torch.ones(SIZE, SIZE)))
    made = make_factored(model, "subgm-small-init", rank=rank, seed=seed, **options)
    optimizer = made.optimizer(lr=3e-3)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * (1 - step / STEPS)
        missed = maps @ model(torch.eye(SIZE)).t().flatten() - seen
        optimizer.zero_grad()
        (missed.abs().mean() if loss == "l1" else missed.square().mean()).backward()
        optimizer.step()
    return float((made.layers["0"].dense() - truth).norm().detach() / truth.norm())


def errors(rank, **options):
    return median(recover(seed, rank, **options) for seed in SEEDS)


def test_a_third_of_gross_outliers_is_survived_at_the_defaults_where_squares_fail():
    assert max(recover(seed, SIZE) for seed in SEEDS) < 0.05
    assert min(recover(seed, SIZE, loss="l2") for seed in SEEDS) > 0.5
    assert max(recover(seed, SIZE, loss="l2", outliers=0.0) for seed in SEEDS) < 0.05


def test_the_error_falls_with_the_scale_of_the_start():
    found = [errors(SIZE, scale=scale) for scale in (1.0, 0.1, 0.01, 0.001)]
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.05 * found[0]


def test_the_error_of_a_small_start_does_not_depend_on_a_rank_that_is_too_high():
    found = [errors(rank, scale=1e-3) for rank in (TRUE_RANK, 5, 10, SIZE)]
    assert max(found) < 5e-3


def test_a_step_of_a_pair_by_hand():
    A, B = (nn.Parameter(torch.tensor(values)) for values in ([[3.0, 4.0, 0.0]], [[1.0], [0.0]]))
    G = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    optimizer = SubgradientOptimizer([A, B], [Pair("layer", A, B, 1.0)], Rates(0.1), speed=2.0)
    (B @ A * G).sum().backward()
    optimizer.step()
    # dL/dA = B^T G = [2, 0, 0], |B| = 1; dL/dB = G A^T = [6, 0], |A| = 5: gamma = max(2, 1.2)
    torch.testing.assert_close(A.detach(), torch.tensor([[3.0 - 0.2, 4.0, 0.0]]))
    torch.testing.assert_close(B.detach(), torch.tensor([[1.0 - 0.2 * 6 / 2], [0.0]]))
    assert not optimizer.state[A]
    assert not optimizer.state[B]


def test_no_slope_is_no_step_and_the_size_of_the_loss_is_no_matter():
    moved = []
    for size in (0.0, 1.0, 1e6):
        made = make_factored(nn.Sequential(linear(torch.ones(6, 5))), "subgm-small-init", rank=3, seed=1)
        (layer,) = made.layers.values()
        before = layer.A.detach().clone()
        optimizer = made.optimizer(lr=1e-3)
        (size * layer.dense().sum()).backward()
        optimizer.step()
        moved.append(layer.A.detach() - before)
    assert float(moved[0].abs().max()) == pytest.approx(0.0)
    torch.testing.assert_close(moved[1], moved[2], rtol=1e-4, atol=0)
    assert float(moved[1].norm()) > 0


@pytest.mark.parametrize("options", [{"scale": 0.0}, {"speed": -1.0}])
def test_what_is_not_above_0_is_refused(options):
    with pytest.raises(UsageError, match="above 0"):
        make_factored(nn.Sequential(nn.Linear(4, 4)), "subgm-small-init", rank=1, targets="0", **options)
