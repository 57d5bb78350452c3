"""What holds for every registered form from every start; a new one is covered by registering it."""

import copy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lorank import lowrank
from lorank.errors import LorankError, UsageError
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.forms import FORMS
from lorank.lowrank.starts import STARTS, Start

POINTS = [
    pytest.param(form, start, id=f"{form}-{start}")
    for form in FORMS
    for start in STARTS
    if STARTS[start].suits(FORMS[form])
]
every_point = pytest.mark.parametrize(("form", "start"), POINTS)
LAYERS = ["wide", "narrow", "transposed"]
CLOSE = {torch.float64: 1e-11, torch.float32: 2e-5}


def attach(model, form, start, **keywords):
    keywords = {"rank": 2, "alpha": 3.0, "targets": LAYERS, "trained": ["head"], "seed": 1} | keywords
    if STARTS[start].needs:
        keywords["statistics"] = statistics(model, keywords["targets"])
    return lowrank.attach(model, form, start=start, **keywords)


def statistics(model, layers):
    """What a calibration pass might have seen; the same for a layer whatever else is adapted."""
    seen = {}
    for path in layers:
        module = model.get_submodule(path)
        base = module.frozen if isinstance(module, lowrank.Adapted) else BaseLinear(module)
        generator = torch.Generator().manual_seed(sum(map(ord, path)))
        gradient = torch.randn(base.out_features, base.in_features, generator=generator)
        inputs = torch.randn(40, base.in_features, generator=generator)
        fisher = {f"fisher_{kind}": torch.rand(gradient.shape, generator=generator) for kind in ("forget", "retain")}
        seen[path] = {"gradient": gradient, "inputs": inputs, **fisher}
    return seen


def shares_ranks(start):
    return type(STARTS[start]).ranks is not Start.ranks


def trained(form):
    return [parameter for parameter in form.parameters() if parameter.requires_grad]


def inputs(dtype=torch.float32, rows=4):
    return torch.randn(rows, 3, 6, generator=torch.Generator().manual_seed(0)).to(dtype)


@every_point
@pytest.mark.parametrize("dtype", CLOSE)
def test_the_output_at_the_start_is_the_base_models(form, start, dtype, tower):
    model, x = tower(dtype), inputs(dtype)
    before = model(x)
    attach(model, form, start)
    if STARTS[start].keeps_output:
        torch.testing.assert_close(model(x), before, atol=CLOSE[dtype], rtol=CLOSE[dtype])


@every_point
def test_a_tiny_step_does_not_raise_the_loss(form, start, tower):
    model, x = tower(torch.float64), inputs(torch.float64)
    adapter = attach(model, form, start)
    loss = (model(x) - 1).square().mean()
    loss.backward()
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter -= 1e-4 * parameter.grad
    assert (model(x) - 1).square().mean() < loss


@every_point
@pytest.mark.parametrize("dtype", CLOSE)
def test_forward_is_the_merged_weight_and_unmerging_restores_every_bit(form, start, dtype, tower, shake):
    model, x = tower(dtype), inputs(dtype)
    original = copy.deepcopy(model.state_dict())
    adapter = attach(model, form, start)
    shake(adapter)
    before = model(x)
    adapter.merge()
    assert adapter.merged
    torch.testing.assert_close(model(x), before, atol=CLOSE[dtype], rtol=CLOSE[dtype])
    assert not torch.equal(model.wide.base.weight, original["wide.weight"])
    adapter.unmerge()
    assert torch.equal(model(x), before)
    adapter.merge()
    adapter.detach()
    for name, tensor in model.state_dict().items():
        assert name.startswith("head") or torch.equal(tensor, original[name])
    assert type(model.wide) is nn.Linear
    assert all(parameter.requires_grad for parameter in model.parameters())


@every_point
def test_a_merged_weight_in_bf16_is_the_exact_sum_rounded_once(form, start, tower, shake):
    model, x = tower(torch.bfloat16), inputs(torch.bfloat16)
    original = copy.deepcopy(model.state_dict())
    adapter = attach(model, form, start)
    shake(adapter)
    before = model(x)
    exact = {path: layer.frozen.weight.float() + layer.delta() for path, layer in adapter.layers.items()}
    adapter.merge()
    for path, layer in adapter.layers.items():
        assert torch.equal(layer.frozen.weight, exact[path].bfloat16())
    torch.testing.assert_close(model(x), before, atol=0.1, rtol=0.05)
    adapter.unmerge()
    adapter.detach()
    for name, tensor in model.state_dict().items():
        assert name.startswith("head") or torch.equal(tensor, original[name])


@every_point
def test_the_fused_forward_is_base_plus_update(form, start, tower, shake):
    model, x = tower(torch.float64), inputs(torch.float64)
    adapter = attach(model, form, start)
    shake(adapter)
    layer = adapter.layers["wide"]
    update = adapter.forms["wide"]
    fused = layer(x)
    output = layer.base(x)
    torch.testing.assert_close(fused, output + update.update(x, layer.frozen, output))
    torch.testing.assert_close(fused, output + x @ update.delta(layer.base.weight).T)
    assert layer.frozen.plain
    hook = layer.base.register_forward_hook(lambda *_: None)
    assert not layer.frozen.plain
    torch.testing.assert_close(layer(x), fused)
    hook.remove()


@every_point
def test_fused_gradients_are_those_of_plain_operations(form, start, tower, shake):
    model, x = tower(torch.float64), inputs(torch.float64).requires_grad_()
    adapter = attach(model, form, start)
    shake(adapter)
    parameters = [x, *adapter.parameters()]
    fused = torch.autograd.grad(model(x).square().sum(), parameters)
    for layer in adapter.layers.values():
        layer.base.register_forward_hook(lambda *_: None)
    plain = torch.autograd.grad(model(x).square().sum(), parameters)
    for ours, reference in zip(fused, plain, strict=True):
        torch.testing.assert_close(ours, reference)


@every_point
def test_gradients_reach_the_input_and_all_that_is_trained_and_nothing_else(form, start, tower, shake):
    model, x = tower(), inputs().requires_grad_()
    adapter = attach(model, form, start)
    shake(adapter)
    model(x).square().sum().backward()
    assert x.grad.abs().sum() > 0
    trained = dict(adapter.named_parameters())
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in trained.values())
    ids = {id(parameter) for parameter in trained.values()}
    assert all(
        parameter.grad is None and not parameter.requires_grad
        for parameter in model.parameters()
        if id(parameter) not in ids
    )
    assert any(name.startswith("head.") for name in trained)


@every_point
def test_two_active_adapters_are_the_sum_of_two_singles(form, start, tower, shake):
    model, x = tower(torch.float64), inputs(torch.float64)
    base = model.wide(x)
    first = attach(model, form, start, name="first", trained=[])
    shake(first, seed=1)
    second = attach(model, "lora", "zero", name="second", trained=[], rank=3)
    shake(second, seed=2)
    layer = model.wide
    both = layer(x)
    first.activate()
    alone = layer(x)
    first.activate("second")
    other = layer(x)
    torch.testing.assert_close(both - base, (alone - base) + (other - base))
    first.activate("first", "second")
    torch.testing.assert_close(layer(x), both)
    first.merge()
    torch.testing.assert_close(layer(x), both)
    first.unmerge()
    first.detach()
    torch.testing.assert_close(layer(x), other)
    second.detach()
    assert torch.equal(model.wide(x), base)


@every_point
def test_the_trained_count_is_the_formula(form, start, tower):
    adapter = attach(tower(), form, start, trained=[])
    assert adapter.num_parameters() == sum(update.parameter_count() for update in adapter.forms.values())


@every_point
def test_the_rank_of_the_update_is_the_formula(form, start, tower, shake):
    adapter = attach(tower(torch.float64), form, start)
    shake(adapter)
    ranks = {
        path: int(torch.linalg.matrix_rank(update.delta(adapter.layers[path].frozen.weight), rtol=1e-9))
        for path, update in adapter.forms.items()
    }
    bounds = {path: update.rank_bound() for path, update in adapter.forms.items()}
    if form == "edge-popup":  # which edges are in is a choice: a small layer may have none that count
        assert all(ranks[path] <= bound for path, bound in bounds.items())
        assert any(ranks.values())
    else:
        assert ranks == bounds


@every_point
def test_the_same_seed_gives_the_same_tensors_whatever_else_is_adapted(form, start, tower):
    one, two = attach(tower(), form, start).state(), attach(tower(), form, start).state()
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    among = attach(tower(), form, start).forms["narrow"].state_dict()
    alone = attach(tower(), form, start, targets=["narrow"]).forms["narrow"].state_dict()
    assert among.keys() == alone.keys()
    if shares_ranks(start):
        return  # the ranks, and so the shapes, depend on what else is adapted
    assert all(torch.equal(among[key], alone[key]) for key in alone)


@every_point
def test_no_draw_touches_the_global_generator(form, start, tower):
    model = tower()
    before = torch.random.get_rng_state()
    attach(model, form, start)
    assert torch.equal(before, torch.random.get_rng_state())


@every_point
def test_bf16_weights_and_autocast(form, start, tower, shake):
    exact, x = tower(), inputs()
    reference = attach(exact, form, start)
    shake(reference)
    half = tower(torch.bfloat16)
    adapter = attach(half, form, start)
    adapter.load_state({key: tensor.clone() for key, tensor in reference.state().items()})
    assert all(parameter.dtype is torch.float32 for form_ in adapter.forms.values() for parameter in form_.parameters())
    assert half(x.bfloat16()).dtype is torch.bfloat16
    torch.testing.assert_close(half(x.bfloat16()).float(), exact(x), atol=0.1, rtol=0.05)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = exact(x)
    assert cast.dtype is torch.bfloat16
    torch.testing.assert_close(cast.float(), exact(x), atol=0.1, rtol=0.05)
    for model, own, scores in ((half, adapter, half(x.bfloat16())), (exact, reference, cast)):
        scores.float().sum().backward()
        for path, update in own.forms.items():
            for parameter in trained(update):
                assert parameter.grad.dtype is torch.float32, path
                assert parameter.grad.isfinite().all()
        assert model is not None


@every_point
def test_gradients_under_autocast_are_near_those_in_float32(form, start, tower, shake):
    model, x = tower(), inputs().requires_grad_()
    adapter = attach(model, form, start)
    shake(adapter)
    parameters = [x, *adapter.parameters()]
    exact = torch.autograd.grad(model(x).sum(), parameters)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = model(x)
    for near, reference in zip(torch.autograd.grad(scores.float().sum(), parameters), exact, strict=True):
        assert near.dtype == reference.dtype
        assert (near - reference).norm() <= 0.05 * reference.norm() + 1e-3


@every_point
@pytest.mark.parametrize("rank", [0, 1, 5, 30])
def test_any_rank_from_zero_to_beyond_the_matrix(form, start, rank, tower, shake, tmp_path):
    model, x = tower(torch.float64), inputs(torch.float64)
    before = model(x)
    adapter = attach(model, form, start, rank=rank)
    if STARTS[start].keeps_output:
        torch.testing.assert_close(model(x), before)
    shake(adapter)
    after = model(x)
    after.sum().backward()
    adapter.merge()
    torch.testing.assert_close(model(x), after)
    adapter.unmerge()
    adapter.save(tmp_path / "adapter")
    fresh = tower(torch.float64)
    lowrank.load(fresh, tmp_path / "adapter")
    torch.testing.assert_close(fresh(x), after)


@every_point
@pytest.mark.parametrize("shape", [(6,), (1, 6), (0, 6), (0, 3, 6), (1, 1, 6), (2, 3, 2, 6)])
def test_any_shape_of_batch(form, start, shape, tower, shake):
    model = tower()
    adapter = attach(model, form, start)
    shake(adapter)
    x = torch.ones(shape, requires_grad=True)
    y = model.wide(x)
    assert y.shape == (*shape[:-1], 10)
    y.sum().backward()
    assert x.grad.shape == shape
    assert all(parameter.grad.isfinite().all() for parameter in trained(adapter.forms["wide"]))
    with torch.inference_mode():
        torch.testing.assert_close(model.wide(x), y)


@every_point
def test_inputs_that_do_not_lie_in_one_piece(form, start, tower, shake):
    model = tower()
    adapter = attach(model, form, start)
    shake(adapter)
    x = torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(1)).permute(2, 1, 0)
    torch.testing.assert_close(model(x), model(x.contiguous()))
    strided = torch.autograd.grad(model.wide(x).sum(), trained(adapter.forms["wide"]))
    weighted = torch.autograd.grad(
        (model.wide(x.contiguous()) * torch.ones(3, 4, 10)).sum(), trained(adapter.forms["wide"])
    )
    for one, other in zip(strided, weighted, strict=True):
        torch.testing.assert_close(one, other)


@every_point
def test_dropout_acts_in_training_alone_and_keeps_the_mean(form, start, tower, shake):
    model, x = tower(), inputs()
    adapter = attach(model, form, start, dropout=0.5)
    shake(adapter)
    model.eval()
    steady = model.wide(x)
    assert torch.equal(steady, model.wide(x))
    model.train()
    torch.manual_seed(0)
    with torch.no_grad():
        draws = model.wide(x.expand(4000, *x.shape))
    assert not torch.equal(draws[0], draws[1])
    torch.testing.assert_close(draws.mean(0), steady, atol=0.15, rtol=0)
    grads = torch.autograd.grad(model(x).sum(), list(adapter.parameters()))
    assert all(grad.isfinite().all() for grad in grads)


@every_point
def test_disabled_is_the_base_model(form, start, tower, shake):
    model, x = tower(), inputs()
    base = model.wide(x)
    adapter = attach(model, form, start)
    shake(adapter)
    adapted = model.wide(x)
    with adapter.disabled():
        assert torch.equal(model.wide(x), base)
    assert torch.equal(model.wide(x), adapted)
    adapter.merge()
    with adapter.disabled():
        assert torch.equal(model.wide(x), base)
    torch.testing.assert_close(model.wide(x), adapted)


@every_point
def test_state_goes_back_in_and_a_wrong_one_is_refused(form, start, tower, shake):
    one, two, x = tower(), tower(), inputs()
    adapter = attach(one, form, start)
    shake(adapter)
    state = {key: tensor.clone() for key, tensor in adapter.state().items()}
    twin = attach(two, form, start)
    twin.load_state(state)
    assert torch.equal(one(x), two(x))
    assert torch.equal(copy.deepcopy(one)(x), one(x))
    key = next(iter(state))
    with pytest.raises(LorankError, match="missing"):
        twin.load_state({name: tensor for name, tensor in state.items() if name != key})
    with pytest.raises(LorankError, match="shape"):
        twin.load_state(state | {key: state[key].repeat(2, *[1] * (state[key].dim() - 1))})


@every_point
def test_a_name_is_given_once(form, start, tower):
    model = tower()
    attach(model, form, start)
    with pytest.raises(UsageError, match="default"):
        attach(model, form, start)


@every_point
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_forward_is_the_dense_update_for_any_sizes(form, start, data):
    out, width, rank = (data.draw(st.integers(1, 9)) for _ in range(3))
    bias, seed = data.draw(st.booleans()), data.draw(st.integers(0, 99))
    layer = nn.Linear(width, out, bias=bias).double()
    model = nn.ModuleDict({"layer": layer})
    seen = statistics(model, ["layer"]) if STARTS[start].needs else None
    adapter = lowrank.attach(model, form, start=start, rank=rank, seed=seed, statistics=seen)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator).double()
    x = torch.randn(3, width, generator=generator).double()
    dense = layer.weight + adapter.forms["layer"].delta(layer.weight)
    torch.testing.assert_close(model["layer"](x), nn.functional.linear(x, dense, layer.bias))


FRESH = """
import sys, json, pathlib
import numpy as np, torch
root = pathlib.Path(sys.argv[1])
sys.path.insert(0, sys.argv[2])
from conftest import make_tower
from lorank import lowrank
x = torch.from_numpy(np.load(root / "x.npy"))
for folder in sorted(path for path in root.iterdir() if path.is_dir()):
    model = make_tower()
    with torch.no_grad():
        model.head.weight.fill_(float("nan"))
    lowrank.load(model, folder)
    np.save(root / f"{folder.name}.npy", model(x).detach().numpy())
"""


def test_a_fresh_process_scores_the_same(tower, shake, tmp_path):
    x = inputs()
    np.save(tmp_path / "x.npy", x.numpy())
    expected = {}
    for point in POINTS:
        form, start = point.values
        model = tower()
        adapter = attach(
            model,
            form,
            start,
            ranks={"narrow": 1, "wide": 3},
            alphas={"transposed": 5.0},
            scaling="rslora" if start == "zero" else "lora",
        )
        shake(adapter)
        adapter.save(tmp_path / f"{form}-{start}", probe=lambda model: model(x))
        expected[f"{form}-{start}"] = model(x).detach().numpy()
    subprocess.run([sys.executable, "-c", FRESH, str(tmp_path), str(Path(__file__).parent)], check=True)
    for name, scores in expected.items():
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), scores)


class Sealed(BaseLinear):
    """A base that gives its output but not its weight, as a quantised one may."""

    plain = False

    @property
    def weight(self):
        raise AssertionError("the weight was read")


@every_point
def test_forward_reads_the_weight_only_where_the_form_says_so(form, start, tower, shake):
    model, x = tower(), inputs()
    adapter = attach(model, form, start)
    shake(adapter)
    sealed, update = Sealed(model.wide.base), adapter.forms["wide"]
    if FORMS[form].needs_weight:
        with pytest.raises(AssertionError):
            update(x, sealed)
    else:
        torch.testing.assert_close(update(x, sealed), model.wide(x))
