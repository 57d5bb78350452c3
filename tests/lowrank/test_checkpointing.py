"""Activation checkpointing: what is trained under it gets the gradients that it gets without it, or a refusal."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from lorank import lowrank
from lorank.errors import UsageError
from lorank.lowrank.bottleneck import attach_bottlenecks
from lorank.lowrank.forms.form import FORMS, ROUTED

NAMES = sorted({*FORMS, *ROUTED})


class Blocks(nn.Module):
    """Six layers in blocks of one, two and three, each block checkpointed as ``kind`` says."""

    def __init__(self, kind=None):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(6))
        self.kind = kind
        self.double()

    def forward(self, x):
        for first, last in ((0, 1), (1, 3), (3, 6)):
            block = nn.Sequential(*(part for layer in self.layers[first:last] for part in (layer, nn.Tanh())))
            x = block(x) if self.kind is None else checkpoint(block, x, use_reentrant=self.kind == "reentrant")
        return x


def batch(seed):
    return torch.randn(5, 8, generator=torch.Generator().manual_seed(seed)).double().requires_grad_()


def move(parameters):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in parameters:
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator).to(parameter)


def gradients(model, adapter, losses):
    """The gradients of the sum of the losses on several batches, all forward passes before any backward pass."""
    outputs = [model(batch(seed)) for seed in losses]
    for index, seed in enumerate(losses):
        outputs[index].square().sum().mul(seed).backward()
    return [parameter.grad.clone() for parameter in adapter.parameters()]


@pytest.mark.parametrize("batches", [(1,), (1, 2, 3)])
@pytest.mark.parametrize("connected", [True, False])
def test_bottlenecks_under_checkpointing(connected, batches):
    found = []
    for kind in (None, "free"):
        model = Blocks(kind)
        adapter = attach_bottlenecks(model, [f"layers.{i}" for i in range(6)], width=3, connected=connected)
        move(adapter.parameters())
        first = gradients(model, adapter, batches)
        model.zero_grad()
        found.append((first, gradients(model, adapter, batches[::-1])))
        if connected:
            path = model.layers[0].bottlenecks["default"].path
            assert not any(path.visits.values())  # nothing is kept beyond its backward pass
            copy.deepcopy(model)
    for plain, again in zip(*found, strict=True):
        for one, other in zip(plain, again, strict=True):
            torch.testing.assert_close(one, other)


def test_connected_bottlenecks_are_refused_under_the_reentrant_kind():
    model = Blocks("reentrant")
    adapter = attach_bottlenecks(model, [f"layers.{i}" for i in range(6)], width=3)
    move(adapter.parameters())
    with pytest.raises(UsageError, match="use_reentrant=False"):
        model(batch(1)).square().sum().backward()


def test_connected_bottlenecks_inside_one_reentrant_block():
    found = []
    for kind in (None, "reentrant"):
        model = Blocks()
        adapter = attach_bottlenecks(model, [f"layers.{i}" for i in range(6)], width=3)
        move(adapter.parameters())
        y = model(batch(1)) if kind is None else checkpoint(model, batch(1), use_reentrant=True)
        y.square().sum().backward()
        found.append([parameter.grad for parameter in adapter.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kind", ["free", "reentrant"])
@pytest.mark.parametrize("form", NAMES)
def test_forms_under_checkpointing(form, kind):
    found, balances = [], []
    for own in (None, kind):
        model = Blocks(own)
        adapter = lowrank.attach(model, form, rank=2, seed=1)
        move(adapter.parameters())
        x = batch(1)
        y = model(x)
        if form == "mixture-of-routers" and own == "reentrant":
            with pytest.raises(UsageError, match="use_reentrant=False"):
                adapter.forms["layers.0"].penalty()
            return
        balances.append([part for one in adapter.forms.values() if (part := one.penalty()) is not None])
        (y.square().sum() + sum(balances[-1])).backward()
        assert all(one.penalty() is None for one in adapter.forms.values()) or form == "taps"
        found.append([y.detach(), x.grad, *(parameter.grad for parameter in adapter.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("form", NAMES)
def test_a_model_can_be_copied_and_saved_after_a_training_pass(form, tmp_path):
    model = Blocks()
    adapter = lowrank.attach(model, form, rank=2)
    model.train()(batch(1)).sum().backward()
    twin = copy.deepcopy(adapter)
    assert all(torch.equal(tensor, twin.state()[key]) for key, tensor in adapter.state().items())
    adapter.save(tmp_path / "a", probe=lambda one: one(batch(2)))
