"""SLTrain: the support, the count, the rebuilt product, and a teacher of full rank (pretrain.lowrank: sltrain)."""

import pytest
import torch
from torch import nn

from factored_layers import fit_teacher, linear
from lorank.errors import UsageError
from lorank.lowrank.factored import FACTORED, make_factored
from lorank.lowrank.factored.sltrain import Rebuilt, SLTrain, build

SEEDS = [0, 1]


def test_two_by_three_by_hand():
    a, b = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0], [-1.0]])
    dense = build(a, b, torch.tensor([10.0, 20.0]), torch.tensor([1, 5]), 2.0)
    assert dense.tolist() == [[2, 14, 6], [-2, -4, 14]]


def test_the_rebuilt_product_has_the_gradients_of_the_plain_one():
    generator = torch.Generator().manual_seed(0)
    tensors = [
        torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in ((2, 5, 6), (2, 6), (4, 2), (7,))
    ]
    support = torch.randperm(24, generator=generator)[:7].sort().values
    assert torch.autograd.gradcheck(lambda *own: Rebuilt.apply(*own, support, 0.7), tensors)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_support_is_random_even_and_fixed(seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(60, 50))
    (layer,) = make_factored(model, "sltrain", rank=4, targets="0", delta=0.1, seed=seed).layers.values()
    assert layer.support.dtype == torch.int64
    assert layer.support.tolist() == sorted(set(layer.support.tolist()))
    assert len(layer.support) == len(layer.V) == 300
    assert layer.B.abs().sum() == 0
    assert layer.V.abs().max() <= 60**-0.5
    rows = torch.bincount(layer.support // 60, minlength=50).double()
    assert rows.var() < 3 * 300 / 50  # a draw from all entries alike: nearly Poisson
    _, trained = fit_teacher(
        lambda: nn.Linear(60, 50), torch.randn(50, 60), steps=20, method="sltrain", rank=4, seed=seed
    )
    again = SLTrain(nn.Linear(60, 50), 4, start="random", generator=torch.Generator().manual_seed(seed))
    assert torch.equal(trained.support, again.support)


@pytest.mark.parametrize("seed", SEEDS)
def test_below_plain_factors_of_equal_rank_on_a_teacher_of_full_rank(seed):
    teacher = torch.randn(24, 24, generator=torch.Generator().manual_seed(seed))
    start = lambda: linear(torch.zeros(24, 24) + 0.1)  # noqa: E731
    sparse, layer = fit_teacher(start, teacher, method="sltrain", rank=4, delta=0.2, seed=seed)
    plain, _ = fit_teacher(start, teacher, method="greenformers-lrt", start="random", rank=4, seed=seed)
    assert sparse < 0.9 * plain
    assert torch.linalg.matrix_rank(layer.dense()) > 4


def test_from_a_trained_weight_it_is_nearer_than_factors_alone():
    weight = torch.randn(30, 20, generator=torch.Generator().manual_seed(0))

    def distance(method, **options):
        model = nn.Sequential(linear(weight))
        (layer,) = make_factored(model, method, targets="0", rank=4, start="svd", **options).layers.values()
        return float((layer.dense() - weight).norm())

    assert distance("sltrain", delta=0.1) < distance("greenformers-lrt")


@pytest.mark.parametrize("delta", [0.0, -0.1, 1.5])
def test_a_share_that_cannot_be_is_refused(delta):
    with pytest.raises(UsageError, match="above 0 and at most 1"):
        make_factored(nn.Sequential(nn.Linear(4, 4)), "sltrain", rank=1, targets="0", delta=delta)


def test_the_scale_is_alpha_over_r():
    model = nn.Sequential(nn.Linear(8, 8))
    (layer,) = make_factored(model, "sltrain", rank=4, targets="0", alpha=32.0).layers.values()
    assert layer.scaling == pytest.approx(8.0)
    assert FACTORED["sltrain"].lr == pytest.approx(3e-3)
