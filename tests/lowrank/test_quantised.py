"""Quantised bases: codes against the papers' numbers and bitsandbytes', and every form standing on them."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lorank import lowrank
from lorank.errors import UsageError
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.forms import FORMS
from lorank.lowrank.quantised import BOUNDARIES, LEVELS, SCHEMES, QuantisedLinear, dequantise, quantise

# Dettmers et al., 2023, appendix E: the levels of NormalFloat4.
PUBLISHED = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
]  # fmt: skip
LAYERS = ["wide", "narrow", "transposed"]
each_scheme = pytest.mark.parametrize("scheme", SCHEMES)


def test_the_levels_are_the_published_ones():
    torch.testing.assert_close(LEVELS, torch.tensor(PUBLISHED), atol=1e-6, rtol=0)


@each_scheme
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_rounding_stays_within_half_a_step_and_repeats_itself(scheme, data):
    out, width = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 40))
    block = data.draw(st.sampled_from([None, 2, 8, 64]))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    weight = torch.randn(out, width, generator=generator) * data.draw(st.sampled_from([1e-3, 1.0, 50.0]))
    layer = QuantisedLinear(weight, None, scheme, block)
    flat = nn.functional.pad(weight.flatten(), (0, -weight.numel() % layer.block)).view(-1, layer.block)
    widest = {"nf4": (LEVELS[1:] - LEVELS[:-1]).max().item() / 2, "int8": 1 / 254}[scheme]
    bound = (flat.abs().amax(1, keepdim=True) * widest * (1 + 1e-5)).expand_as(flat).flatten()[: weight.numel()]
    assert ((layer.weight - weight).flatten().abs() <= bound).all()
    again = QuantisedLinear(layer.weight, None, scheme, block)
    assert torch.equal(again.codes, layer.codes)
    assert torch.equal(again.weight, layer.weight)


@each_scheme
def test_zeros_empty_batches_and_odd_blocks(scheme):
    layer = QuantisedLinear(torch.zeros(3, 5), torch.ones(3), scheme)
    assert torch.equal(layer(torch.ones(2, 5)), torch.ones(2, 3))
    assert layer(torch.ones(0, 5)).shape == (0, 3)
    assert layer(torch.ones(5)).shape == (3,)
    with pytest.raises(UsageError, match="known: int8, nf4"):
        QuantisedLinear(torch.zeros(2, 2), None, "nf5")
    with pytest.raises(UsageError, match="even"):
        QuantisedLinear(torch.zeros(2, 2), None, "nf4", 3)


@each_scheme
def test_the_bytes_kept_and_none_of_the_weights_size_for_the_backward_pass(scheme):
    layer = QuantisedLinear(torch.randn(256, 512), torch.zeros(256), scheme)
    kept = sum(tensor.numel() * tensor.element_size() for tensor in (layer.codes, layer.scales))
    assert kept == {"nf4": 256 * 512 // 2 + 4 * 256 * 512 // 64, "int8": 256 * 512 + 4 * 256}[scheme]
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor.numel()), lambda _: None):
        layer(torch.randn(2, 512, requires_grad=True))
    assert sum(saved) == 0


@each_scheme
def test_moving_to_half_precision_leaves_the_codes_and_scales_as_they_are(scheme):
    layer = QuantisedLinear(torch.randn(4, 6), torch.zeros(4), scheme)
    exact, scales = layer.weight, layer.scales.clone()
    layer.bfloat16()
    assert layer.weight.dtype is layer.bias.dtype is torch.bfloat16
    assert layer.scales.dtype is torch.float32
    assert torch.equal(layer.scales, scales)
    assert layer(torch.ones(1, 6, dtype=torch.bfloat16)).dtype is torch.bfloat16
    assert torch.equal(layer.double().weight, exact.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(torch.ones(1, 6)).dtype is torch.bfloat16


def quantised_pair(tower, form, scheme, shake, dtype=torch.float64, **keywords):
    """The same model with quantised layers, and with dense ones of the same rounded weights."""
    thin = tower(dtype)
    quantise(thin, scheme, targets=LAYERS, block=4)
    full = copy.deepcopy(thin)
    dequantise(full)
    adapters = []
    for model in (thin, full):
        adapter = lowrank.attach(model, form, rank=2, alpha=3.0, targets=LAYERS, trained=["head"], seed=1, **keywords)
        shake(adapter)
        adapters.append(adapter)
    return thin, full, *adapters


def batch(dtype=torch.float64):
    return torch.randn(4, 3, 6, generator=torch.Generator().manual_seed(0)).to(dtype)


@each_scheme
@pytest.mark.parametrize("form", FORMS)
def test_every_form_on_a_quantised_base_is_the_dequantised_base_plus_the_update(form, scheme, tower, shake):
    thin, full, adapter, reference = quantised_pair(tower, form, scheme, shake)
    x = batch().requires_grad_()
    layer, update = thin.wide, adapter.forms["wide"]
    assert isinstance(layer.base, QuantisedLinear)
    dense = layer.base.weight + update.delta(layer.base.weight)
    torch.testing.assert_close(layer(x), nn.functional.linear(x, dense, layer.base.bias))
    ours = torch.autograd.grad(thin(x).sum(), [x, *adapter.parameters()])
    theirs = torch.autograd.grad(full(x).sum(), [x, *reference.parameters()])
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("form", FORMS)
def test_merging_is_refused_on_codes_and_exact_once_the_base_is_dense(form, tower, shake):
    thin, _, adapter, _ = quantised_pair(tower, form, "nf4", shake)
    x = batch()
    before, codes = thin(x), thin.wide.base.codes.clone()
    with pytest.raises(UsageError, match="dequantise"):
        adapter.merge()
    assert not adapter.merged
    assert torch.equal(thin.wide.base.codes, codes)
    assert torch.equal(thin(x), before)
    assert dequantise(thin) == [f"{path}.base" for path in LAYERS]
    torch.testing.assert_close(thin(x), before)
    adapter.merge()
    torch.testing.assert_close(thin(x), before)


@pytest.mark.parametrize("form", FORMS)
def test_forms_that_need_the_weight_say_so_and_no_other_dequantises(form, tower, shake, monkeypatch):
    thin, _, adapter, _ = quantised_pair(tower, form, "int8", shake)
    read = []
    unpack = SCHEMES["int8"].unpack
    watched = SCHEMES["int8"]._replace(unpack=lambda *given: read.append(1) or unpack(*given))
    monkeypatch.setitem(SCHEMES, "int8", watched)
    with torch.no_grad():
        thin.wide(batch())
    assert len(read) == 1 or FORMS[form].needs_weight, "the base's own product reads W once"
    assert adapter.layers["wide"].frozen.quantised


def test_saving_loading_and_detaching(tower, shake, tmp_path):
    thin, full, adapter, _ = quantised_pair(tower, "lora", "nf4", shake, dtype=torch.float32)
    x = batch(torch.float32)
    adapter.save(tmp_path / "adapter", probe=lambda model: model(x))
    fresh = tower()
    quantise(fresh, "nf4", targets=LAYERS, block=4)
    base = fresh(x)
    loaded = lowrank.load(fresh, tmp_path / "adapter")
    torch.testing.assert_close(fresh(x), thin(x))
    loaded.detach()
    assert isinstance(fresh.wide, QuantisedLinear)
    assert not torch.equal(fresh(x), base), "the head was trained whole and keeps its values"
    with pytest.raises(UsageError, match="before attaching"):
        quantise(full, "nf4", targets=LAYERS)


def test_bitsandbytes_layers_give_their_own_weights(shake):
    bitsandbytes = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    torch.manual_seed(0)
    linear = nn.Linear(64, 32)
    theirs = bitsandbytes.nn.Linear4bit(64, 32, quant_type="nf4", compress_statistics=False)
    theirs.load_state_dict(linear.state_dict())
    model = nn.ModuleDict({"layer": theirs.to("cpu")})
    ours = QuantisedLinear.of(linear, "nf4")
    torch.testing.assert_close(BaseLinear(theirs).weight, ours.weight, atol=1e-6, rtol=0)
    x = torch.randn(5, 64, requires_grad=True)
    adapter = lowrank.attach(model, "lora", rank=2)
    shake(adapter)
    dense = ours.weight + adapter.forms["layer"].delta(ours.weight)
    torch.testing.assert_close(model["layer"](x), nn.functional.linear(x, dense, linear.bias), atol=1e-5, rtol=1e-5)
    with pytest.raises(UsageError, match="Linear4bit"):
        adapter.merge()
    dequantise(model)
    adapter.merge()
    torch.testing.assert_close(model["layer"](x), nn.functional.linear(x, dense, linear.bias), atol=1e-5, rtol=1e-5)


def test_torchao_weights_give_their_own_values(shake):
    quantization = pytest.importorskip("torchao.quantization", reason="torchao is not installed")
    torch.manual_seed(0)
    model = nn.ModuleDict({"layer": nn.Linear(64, 32)})
    dense = model["layer"].weight.detach().clone()
    quantization.quantize_(model, quantization.Int8WeightOnlyConfig())
    base = BaseLinear(model["layer"])
    assert base.quantised
    assert not base.plain
    assert ((base.weight - dense).abs() <= dense.abs().amax(1, keepdim=True) / 126).all()
    x = torch.randn(5, 64, requires_grad=True)
    adapter = lowrank.attach(model, "lora", rank=2)
    shake(adapter)
    total = base.weight + adapter.forms["layer"].delta(base.weight)
    torch.testing.assert_close(model["layer"](x), nn.functional.linear(x, total, base.bias), atol=1e-5, rtol=1e-5)
    with pytest.raises(UsageError, match="dequantise"):
        adapter.merge()
    assert BOUNDARIES.numel() == 15
