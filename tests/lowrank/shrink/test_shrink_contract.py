"""What every shrinking method promises: sizes by formula, break-even, exactness at full rank, errors that fall."""

import copy
from itertools import pairwise

import pytest
import torch
from torch import nn

from lorank.errors import UsageError
from lorank.layers import FactoredLinear, GridLinear, describe_layers
from lorank.layers.factored_linear import break_even
from lorank.lowrank import attach, factorize, quantise
from lorank.lowrank.shrink import POLICIES, SHRINKERS
from lorank.lowrank.shrink.core.moments import gather_moments
from lorank.lowrank.shrink.core.ranks import uniform_rank
from lorank.lowrank.shrink.core.shrinker import Weight

METHODS = sorted(SHRINKERS)
PRODUCTS = [name for name in METHODS if SHRINKERS[name].grid is None]
NESTED = [name for name in PRODUCTS if name not in ("als", "cur")]
SHAPES = {"0": (20, 12), "2": (9, 20), "4": (9, 9)}


def made(seed, dtype=torch.float32):
    """Three layers whose inputs and weights decay, and batches of inputs."""
    generator = torch.Generator().manual_seed(seed)
    layers = [nn.Linear(12, 20), nn.Tanh(), nn.Linear(20, 9, bias=False), nn.Tanh(), nn.Linear(9, 9)]
    model = nn.Sequential(*layers)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / parameter.shape[-1] ** 0.5)
    mixing = torch.randn(12, 12, generator=generator) * (0.6 ** torch.arange(12))
    return model.to(dtype), [(torch.randn(40, 12, generator=generator) @ mixing.t() + 0.5).to(dtype) for _ in range(3)]


@pytest.fixture(params=[0, 1])
def seed(request):
    return request.param


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("ratio", [0.4, 0.7])
def test_weights_are_counted_by_the_formula_and_a_rank_is_below_the_break_even(name, ratio, seed):
    model, batches = made(seed)
    report = factorize(model, name, ratio=ratio, calibration=batches)
    whole = sum(m * n for m, n in SHAPES.values())
    assert report.weights[0] == whole
    assert report.weights[1] <= ratio * whole
    kept = 0
    for layer in report.layers:
        m, n = SHAPES[layer.path]
        assert layer.shape == (m, n)
        if layer.rank is None:
            assert type(model.get_submodule(layer.path)) is nn.Linear
        else:
            assert 1 <= layer.rank <= break_even(m, n)
            assert isinstance(model.get_submodule(layer.path), FactoredLinear)
            if SHRINKERS[name].ranks == "uniform":
                assert layer.rank == uniform_rank((m, n), ratio)
        weights = [p.numel() for key, p in model.get_submodule(layer.path).named_parameters() if "weight" in key]
        assert sum(weights) == (m * n if layer.rank is None else layer.rank * (m + n))
        kept += sum(weights)
    assert kept == report.weights[1]


@pytest.mark.parametrize("name", PRODUCTS)
def test_ratio_1_changes_nothing_and_full_rank_restores_the_outputs(name, seed):
    model, batches = made(seed)
    before = torch.cat([model(batch) for batch in batches])
    whole = copy.deepcopy(model)
    assert all(layer.rank is None for layer in factorize(whole, name, ratio=1.0, calibration=batches).layers)
    torch.testing.assert_close(torch.cat([whole(batch) for batch in batches]), before, rtol=0, atol=0)
    square = nn.Sequential(model[4])
    inputs = [batch[:, :9] for batch in batches]
    expected = torch.cat([square(batch) for batch in inputs])
    factorize(square, name, rank=9, calibration=inputs)
    torch.testing.assert_close(torch.cat([square(batch) for batch in inputs]), expected, rtol=1e-5, atol=5e-6)
    tall, wide = nn.Sequential(copy.deepcopy(model[0])), nn.Sequential(copy.deepcopy(model[2]))
    for layer, inputs, rank in ((tall, batches, 12), (wide, [model[:2](batch).detach() for batch in batches], 9)):
        expected = torch.cat([layer(batch) for batch in inputs])
        factorize(layer, name, rank=rank, calibration=inputs)
        torch.testing.assert_close(torch.cat([layer(batch) for batch in inputs]), expected, rtol=1e-4, atol=1e-5)


def decompositions(name, seed):
    """The decomposition of the first layer by a method, its weight and its inputs."""
    model, batches = made(seed)
    moments = gather_moments(model, {"0": model[0]}, batches)["0"]
    matrix = model[0].weight.detach().double()
    return SHRINKERS[name].decompose(Weight(matrix, moments, torch.Generator().manual_seed(0))), matrix, moments


@pytest.mark.parametrize("name", PRODUCTS)
def test_the_error_falls_with_the_rank_and_a_rank_out_of_range_is_refused(name, seed):
    part, matrix, _ = decompositions(name, seed)
    assert bool((part.worth[:-1] >= part.worth[1:] - 1e-12).all())
    errors = [float((matrix - part.factors(rank).product).norm()) for rank in range(1, 13)]
    assert errors[-1] < 1e-5
    if name in NESTED or name == "als":
        worst = [part.error(rank) for rank in range(1, 13)]
        assert all(a >= b - 1e-12 for a, b in pairwise(worst))
    if name != "cur":
        assert all(a >= b - 1e-3 * errors[0] for a, b in pairwise(errors)) or name in (
            "eora",
            "lord",
            "ctr-lowrank-afm",
        )
    for rank in (0, 13):
        with pytest.raises(UsageError, match="from 1 to 12"):
            part.factors(rank)


@pytest.mark.parametrize("name", NESTED)
def test_the_error_that_is_stated_is_the_error_that_is_made_and_svd_is_no_better_in_that_metric(name, seed):
    part, matrix, moments = decompositions(name, seed)
    plain, _, _ = decompositions("svd", seed)
    second = {"eora": moments.second / moments.count, "lord": moments.covariance, "ctr-lowrank-afm": moments.covariance}
    metric = second.get(name, torch.eye(12, dtype=torch.float64))
    for rank in (1, 3, 6, 11):
        lost = matrix - part.factors(rank).product
        error = float((lost @ metric * lost).sum())
        assert error == pytest.approx(part.error(rank), rel=1e-4, abs=1e-7)
        other = matrix - plain.factors(rank).product
        assert error <= float((other @ metric * other).sum()) + 1e-9


@pytest.mark.parametrize("name", METHODS)
def test_half_precision_and_doubles_keep_their_format(name):
    for dtype in (torch.bfloat16, torch.float64):
        model, batches = made(0, dtype)
        before = model(batches[0])
        factorize(model, name, rank=8, calibration=batches)
        after = model(batches[0])
        assert after.dtype is dtype
        assert bool(torch.isfinite(after).all())
        if name != "cur":
            assert float(((after - before).norm() / before.norm()).detach()) < 0.8
        assert all(p.dtype is dtype for key, p in model.named_parameters())


@pytest.mark.parametrize("name", METHODS)
def test_the_same_seed_makes_the_same_model_and_state_fits_what_is_built_from_the_description(name):
    model, batches = made(0)
    again, bare = copy.deepcopy(model), copy.deepcopy(model)
    factorize(model, name, rank=4, calibration=batches)
    factorize(again, name, rank=4, calibration=batches)
    torch.testing.assert_close(model(batches[0]), again(batches[0]), rtol=0, atol=0)
    from lorank.layers import build_layers

    build_layers(bare, describe_layers(model))
    bare.load_state_dict(model.state_dict())
    torch.testing.assert_close(model(batches[0]), bare(batches[0]), rtol=0, atol=0)


@pytest.mark.parametrize("name", METHODS)
def test_adapters_attach_to_the_factors_and_train(name):
    model, batches = made(0)
    factorize(model, name, rank=4, calibration=batches)
    before = model(batches[0])
    adapter = attach(model, "lora", rank=2)
    torch.testing.assert_close(model(batches[0]), before)
    if SHRINKERS[name].grid is None:
        assert {path.rpartition(".")[2] for path in adapter.layers} == {"first", "second"}
    model(batches[0]).square().sum().backward()
    assert all(parameter.grad is not None for parameter in adapter.parameters())


@pytest.mark.parametrize("ranks", sorted(set(POLICIES) - {"order"}))
def test_every_choice_of_ranks_keeps_the_budget_and_gives_each_layer_a_rank(ranks, seed):
    for ratio in (0.3, 0.5, 0.9):
        model, batches = made(seed)
        report = factorize(model, "eora", ratio=ratio, ranks=ranks, calibration=batches)
        assert report.ratio <= ratio
        assert report.ratio > ratio - 0.2
        assert all(layer.rank is None or layer.rank >= 1 for layer in report.layers)


def unchanged(model, state):
    return all(torch.allclose(v, state[k], rtol=0, atol=0, equal_nan=True) for k, v in model.state_dict().items())


def refused(match, name="svd", change=lambda model: model, **options):
    model, batches = made(0)
    model = change(model)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(UsageError, match=match):
        factorize(model, name, **({"calibration": batches} | options))
    assert set(before) == set(model.state_dict())
    assert unchanged(model, before)
    assert not describe_layers(model)


def tied(model):
    model[4].weight = nn.Parameter(torch.randn(9, 9))
    model.append(nn.Linear(9, 9))
    model[5].weight = model[4].weight
    return model


def repeated(model):
    return nn.Sequential(model[0], nn.Linear(20, 12), model[0])


def adapted(model):
    attach(model, "lora", rank=1)
    return model


def with_nan(model):
    with torch.no_grad():
        model[2].weight[0, 0] = float("nan")
    return model


@pytest.mark.parametrize(
    ("match", "options"),
    [
        ("below one rank for layer 0", {"ratio": 0.05}),
        (r"above min\(out, in\) = 12 of layer 0", {"rank": 13}),
        ("state one of them", {"ratio": 0.5, "rank": 3}),
        ("above 0 and up to 1", {"ratio": 1.5}),
        ("from 1 up", {"rank": 0}),
        ("did you mean 'eora'", {"name": "eorra"}),
        ("did you mean 'uniform'", {"ranks": "unifrom"}),
        ("unknown option of shrinking method 'als': 'round'", {"name": "als", "round": 3}),
        ("give calibration", {"name": "eora", "calibration": None}),
        ("texts that are not empty", {"name": "lord", "calibration": []}),
        ("give order_loss", {"ranks": "order"}),
        ("tied to or shared with", {"change": tied}),
        ("tied to or shared with", {"change": repeated}),
        ("has an adapter", {"change": adapted}),
        ("quantised", {"change": lambda model: quantise(model, "int8") and model}),
        ("no numbers", {"change": with_nan}),
        ("no linear layer", {"change": lambda model: nn.Sequential(nn.Tanh())}),
        ("unknown grid 'fp5'", {"grid": "fp5"}),
        ("on its grid", {"name": "zeroquant-fp", "ratio": 0.15}),
    ],
)
def test_what_cannot_work_is_refused_and_the_model_stays_as_it_was(match, options):
    refused(match, **options)


def test_a_factored_model_is_not_factored_again():
    model, _ = made(0)
    factorize(model, "svd", rank=2)
    with pytest.raises(UsageError, match="factored already"):
        factorize(model, "svd", rank=2)


def test_a_layer_on_a_grid_holds_its_codes_and_its_factors():
    model, batches = made(0)
    report = factorize(model, "eora", grid="fp4", rank=3, calibration=batches)
    layer = model[0]
    assert isinstance(layer, GridLinear)
    assert layer.codes.numel() == 20 * 6
    assert report.bytes[1] < report.bytes[0]
    parts = [layer.codes, layer.row, layer.exponents, layer.first.weight, layer.second.weight]
    assert report.bytes[1] >= sum(part.numel() * part.element_size() for part in parts)
