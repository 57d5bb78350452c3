"""Every form on modules as models really have them: shared, read instead of called, computed, hooked, offloaded.

Each case is a model whose layer an update stands on. What must hold: the update's start changes nothing; the output
merged is the output unmerged; gradients are those of finite differences; unmerging gives the very parameter back;
what is taken off leaves outputs, values, flags, hooks and classes as they were.
"""

import copy
from dataclasses import dataclass, field

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from transformers.pytorch_utils import Conv1D

from lorank import lowrank
from lorank.errors import UsageError
from lorank.lowrank.forms.form import FORMS, ROUTED

NAMES = sorted({*FORMS, *ROUTED})
every_form = pytest.mark.parametrize("form", NAMES)


@dataclass
class Case:
    """A model, what it reads, and which of its layers are adapted."""

    model: nn.Module
    inputs: tuple[torch.Tensor, ...]
    targets: object = "all-linear"
    keywords: dict[str, object] = field(default_factory=dict)
    close: float = 1e-9
    matters: torch.Tensor | None = None
    """Which of the outputs say anything: torch gives padding other values on its fast path."""

    def __call__(self):
        y = self.model(*self.inputs, **self.keywords)
        y = y[0] if isinstance(y, tuple) else y
        return y if self.matters is None else y[self.matters]


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Two(nn.Module):
    """Two layers after one another."""

    def __init__(self, first, second):
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


class Scaled(nn.Linear):
    """A layer with a forward of its own, linear in its weight all the same."""

    def forward(self, x):
        return x @ self.weight.T + self.bias


class ReadsWeights(nn.Module):
    """A module that multiplies with its layers' weights itself."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 6, bias=False)

    def forward(self, x):
        h = torch.tanh(nn.functional.linear(x, self.first.weight, self.first.bias))
        return h @ self.second.weight.t()


def tied_parameters():
    model = Two(nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False))
    model.second.weight = model.first.weight
    return Case(model, (drawn(4, 6),))


def one_module_twice():
    layer = nn.Linear(6, 6)
    return Case(Two(layer, layer), (drawn(4, 6),))


def tied_embedding():
    model = nn.Sequential(nn.Embedding(7, 6), nn.Linear(6, 6), nn.Linear(6, 7, bias=False))
    model[2].weight = model[0].weight
    return Case(model, (torch.arange(7).view(1, 7),))


def shared_between_encoder_and_decoder():
    block = nn.Sequential(nn.Linear(6, 6), nn.Tanh())
    return Case(Two(nn.Sequential(block, nn.Linear(6, 6)), nn.Sequential(block)), (drawn(4, 6),))


def attention():
    x = drawn(2, 5, 8)
    return Case(nn.MultiheadAttention(8, 2, batch_first=True), (x, x, x), ["out_proj"], {"need_weights": False})


def attention_with_weights():
    x = drawn(5, 2, 8)
    return Case(nn.MultiheadAttention(8, 2), (x, x, x), ["out_proj"])


def encoder_layer():
    return Case(nn.TransformerEncoderLayer(8, 2, 12, 0.0, batch_first=True), (drawn(2, 5, 8),))


def encoder_with_padding():
    layer = nn.TransformerEncoderLayer(8, 2, 12, 0.0, batch_first=True)
    mask = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    return Case(
        nn.TransformerEncoder(layer, 1), (drawn(2, 5, 8),), keywords={"src_key_padding_mask": mask}, matters=~mask
    )


def weights_that_are_read():
    return Case(ReadsWeights(), (drawn(4, 6),))


def weight_norm():
    return Case(nn.Sequential(parametrizations.weight_norm(nn.Linear(6, 8))), (drawn(4, 6),))


def spectral_norm():
    return Case(nn.Sequential(parametrizations.spectral_norm(nn.Linear(6, 8))).eval(), (drawn(4, 6),))


class Halved(nn.Module):
    def forward(self, value):
        return value / 2


def parametrized_bias():
    layer = nn.Linear(6, 8)
    parametrize.register_parametrization(layer, "bias", Halved())
    return Case(nn.Sequential(layer), (drawn(4, 6),))


def hooked():
    layer = nn.Linear(6, 8)
    layer.register_forward_pre_hook(lambda module, inputs: (2 * inputs[0],))
    layer.register_forward_hook(lambda module, inputs, y: torch.tanh(y))
    return Case(nn.Sequential(layer), (drawn(4, 6),))


def patched_forward():
    layer = nn.Linear(6, 8)
    own = layer.forward
    layer.forward = lambda x: own(x)
    return Case(nn.Sequential(layer), (drawn(4, 6),))


def subclass():
    return Case(nn.Sequential(Scaled(6, 8)), (drawn(4, 6),))


def conv1d():
    return Case(nn.Sequential(Conv1D(8, 6)), (drawn(4, 6),))


def data_parallel():
    return Case(nn.DataParallel(nn.Sequential(nn.Linear(6, 8))), (drawn(4, 6),))


def nf4():
    model = nn.Sequential(nn.Linear(8, 8))
    lowrank.quantise(model, "nf4")
    return Case(model, (drawn(4, 8),))


def int8():
    model = nn.Sequential(nn.Linear(8, 8))
    lowrank.quantise(model, "int8")
    return Case(model, (drawn(4, 8),))


MAKERS = [
    tied_parameters,
    one_module_twice,
    tied_embedding,
    shared_between_encoder_and_decoder,
    attention,
    attention_with_weights,
    encoder_layer,
    encoder_with_padding,
    weights_that_are_read,
    weight_norm,
    spectral_norm,
    parametrized_bias,
    hooked,
    patched_forward,
    subclass,
    conv1d,
    data_parallel,
    nf4,
    int8,
]
every_case = pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)


def made(make):
    torch.manual_seed(5)
    return make_double(make())


def make_double(case):
    case.model.double()
    return case


def attached(case, form, **keywords):
    keywords = {"rank": 2, "seed": 1, "targets": case.targets} | keywords
    return lowrank.attach(case.model, form, **keywords)


def modes(model):
    return {path: module.training for path, module in model.named_modules(remove_duplicate=False)}


def snapshot(model):
    """Everything that an adapter may not change: values, flags, classes, modes, and which parameters are one."""
    own = {
        path: (tensor.detach().clone(), tensor.requires_grad, id(tensor))
        for path, tensor in model.named_parameters(remove_duplicate=False)
    }
    buffers = {path: tensor.clone() for path, tensor in model.named_buffers(remove_duplicate=False)}
    kinds = {path: id(module) for path, module in model.named_modules(remove_duplicate=False)}
    return own, buffers, kinds, modes(model)


def assert_same(model, before):
    own, buffers, kinds, training = before
    now = snapshot(model)
    assert now[2] == kinds
    assert now[3] == training
    assert now[0].keys() == own.keys()
    for path, (value, flag, identity) in own.items():
        assert torch.equal(now[0][path][0], value), path
        assert now[0][path][1:] == (flag, identity), path
    assert all(torch.equal(now[1][path], value) for path, value in buffers.items())


@every_form
@every_case
def test_a_form_on_a_module(make, form, shake):
    case = made(make)
    before = snapshot(case.model)
    start = case().detach()
    adapter = attached(case, form)
    torch.testing.assert_close(case().detach(), start, atol=case.close, rtol=case.close)
    shake(adapter, size=0.2)
    assert case().requires_grad  # read, called or computed: the update is part of it
    case.model.eval()
    y = case().detach()
    with torch.no_grad():  # where torch takes its fast paths
        torch.testing.assert_close(case(), y, atol=case.close, rtol=case.close)
    assert (y - start).abs().max() > 1e-6
    if adapter.mergeable:
        kept = copy.deepcopy(adapter.state())
        adapter.merge()
        with torch.no_grad():
            torch.testing.assert_close(case(), y, atol=case.close, rtol=case.close)
        adapter.unmerge()
        assert torch.equal(case().detach(), y)
        assert all(torch.equal(tensor, kept[key]) for key, tensor in adapter.state().items())
    else:
        with pytest.raises(UsageError):
            adapter.merge()
        assert not adapter.merged
    with adapter.disabled(), torch.no_grad():
        torch.testing.assert_close(case(), start, atol=case.close, rtol=case.close)
    adapter.detach()
    for path, module in case.model.named_modules(remove_duplicate=False):
        module.training = before[3][path]
    assert_same(case.model, before)
    assert torch.equal(case().detach(), start)


SMOOTH = ("lora", "gralora", "hydra", "bone", "c3a", "vera", "lorma", "losia", "palora")
"""A form of each way of computing, without constants for the gradient and choices that jump."""


@pytest.mark.parametrize("form", SMOOTH)
@every_case
def test_gradients_are_finite_differences(make, form, shake):
    case = made(make)
    adapter = attached(case, form)
    shake(adapter, size=0.2)
    case.model.train() if make is not spectral_norm else case.model.eval()
    weights = drawn(*case().shape, seed=9)
    loss = (case() * weights).sum()
    loss.backward()
    slope, parts = 0.0, list(adapter.parameters())
    steps = [1e-5 * drawn(*parameter.shape, seed=index) for index, parameter in enumerate(parts)]
    for parameter, step in zip(parts, steps, strict=True):
        assert parameter.grad is not None
        slope += (parameter.grad * step).sum().item()
    values = []
    for sign in (1, -2):
        with torch.no_grad():
            for parameter, step in zip(parts, steps, strict=True):
                parameter += sign * step
        values.append((case() * weights).sum().item())
    assert values[0] - values[1] == pytest.approx(2 * slope, rel=1e-3, abs=1e-8)
