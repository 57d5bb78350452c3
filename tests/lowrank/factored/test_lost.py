"""LOST: the truncated SVD at the start, columns that stay, and a teacher with few strong columns (lost)."""

import pytest
import torch
from torch import nn

from factored_layers import fit_teacher, linear
from lorank.errors import UsageError
from lorank.lowrank.factored import make_factored

SEEDS = [0, 1]


def planted(seed, out=24, width=40, rank=2, columns=(3, 17)):
    """A weight of low rank, with columns of full strength of their own."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(out, rank, generator=generator) @ torch.randn(rank, width, generator=generator) * 3
    for column in columns:
        weight[:, column] += 3 * torch.randn(out, generator=generator)
    return weight + 0.05 * torch.randn(out, width, generator=generator)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_factors_are_the_truncated_svd_and_the_columns_the_rest(seed):
    weight = planted(seed)
    (layer,) = make_factored(nn.Sequential(linear(weight)), "lost", targets="0", rank=2).layers.values()
    U, s, Vh = torch.linalg.svd(weight)
    truncated = U[:, :2] * s[:2] @ Vh[:2]
    torch.testing.assert_close(layer.B @ layer.A, truncated, atol=1e-4, rtol=1e-4)
    norms = (weight - truncated).norm(dim=0)
    assert len(layer.channels) == round(0.03 * 40)
    assert norms[layer.channels].min() >= norms.sort().values[-len(layer.channels)] - 1e-5
    torch.testing.assert_close(layer.dense()[:, layer.channels], weight[:, layer.channels], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("seed", SEEDS)
def test_below_factors_alone_at_an_equal_number_of_values(seed):
    teacher = planted(seed)
    start = lambda: linear(teacher + 0.5 * torch.randn(teacher.shape, generator=torch.Generator().manual_seed(9)))  # noqa: E731
    both, layer = fit_teacher(start, teacher, method="lost", rank=2, channels=0.075, seed=seed)
    alone, plain = fit_teacher(start, teacher, method="greenformers-lrt", rank=3, seed=seed)
    assert layer.count(24, 40, 2, channels=0.075) <= plain.count(24, 40, 3) + 24
    assert both < 0.5 * alone


def test_the_columns_are_chosen_once():
    _, layer = fit_teacher(lambda: linear(planted(0)), planted(5), steps=50, method="lost", rank=2, channels=0.05)
    (before,) = make_factored(
        nn.Sequential(linear(planted(0))), "lost", targets="0", rank=2, channels=0.05
    ).layers.values()
    assert torch.equal(layer.channels, before.channels)


def test_gamma_weighs_the_two_parts():
    weight = planted(0)
    (layer,) = make_factored(nn.Sequential(linear(weight)), "lost", targets="0", rank=2, gamma=0.75).layers.values()
    expected = 0.75 * layer.B @ layer.A
    expected[:, layer.channels] += 0.25 * layer.columns
    torch.testing.assert_close(layer.dense(), expected)


@pytest.mark.parametrize("options", [{"channels": 0.0}, {"channels": 1.1}, {"gamma": -0.1}, {"gamma": 2.0}])
def test_shares_that_cannot_be_are_refused(options):
    with pytest.raises(UsageError, match="above 0 and at most 1|from 0 to 1"):
        make_factored(nn.Sequential(nn.Linear(4, 4)), "lost", rank=1, targets="0", **options)
