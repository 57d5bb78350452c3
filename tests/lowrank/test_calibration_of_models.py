"""`lowrank.calibrate` on any model: autograd's own gradients, either way of storing weights, refusals first."""

import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.errors import UsageError
from lorank.lowrank.base import BaseLinear

LAYERS = ("wide", "narrow", "transposed")


def loss(model, batch):
    x, target = batch
    return (model(x) - target).square().mean()


def batches(count=3):
    generator = torch.Generator().manual_seed(2)
    return [(torch.randn(8, 6, generator=generator), torch.randn(8, generator=generator)) for _ in range(count)]


def test_gradients_are_autograds_means_as_out_by_in_however_the_layer_stores_its_weight(tower):
    model = tower().train()
    model.wide.weight.requires_grad_(False)
    found = lowrank.calibrate(model, batches(), loss, targets=LAYERS)
    assert model.training
    assert [p.requires_grad for p in model.parameters()] == [p is not model.wide.weight for p in model.parameters()]
    assert not model.wide._forward_pre_hooks
    model.requires_grad_(True)
    for path in LAYERS:
        layer = model.get_submodule(path)
        base = BaseLinear(layer)
        each = [torch.autograd.grad(loss(model, batch), layer.weight)[0] for batch in batches()]
        each = [gradient.t() if base.transposed else gradient for gradient in each]
        assert found[path]["gradient"].shape == (base.out_features, base.in_features)
        torch.testing.assert_close(found[path]["gradient"], torch.stack(each).mean(0))
        torch.testing.assert_close(found[path]["fisher"], torch.stack(each).square().mean(0))
    rows = {tuple(row) for x, _ in batches() for row in x.tolist()}
    assert {tuple(row) for row in found["wide"]["inputs"].tolist()} == rows


@pytest.mark.parametrize("name", ["eva", "gora", "lora-ga", "lora-sb"])
def test_calibrated_methods_take_what_it_gives(name, tower):
    model = tower()
    kinds = lowrank.statistics_needed(name)
    found = lowrank.calibrate(model, batches(), loss, targets=LAYERS, kinds=kinds)
    assert all(set(own) == kinds for own in found.values())
    lowrank.attach(model, name, rank=2, targets=LAYERS, statistics=found)


def test_inputs_alone_need_no_gradients_and_are_a_draw_of_the_seed(tower):
    model = tower()
    seen = []

    def forward(model, batch):
        seen.append(torch.is_grad_enabled())
        return loss(model, batch)

    one, two, other = (
        lowrank.calibrate(model, batches(), forward, kinds=["inputs"], rows=4, seed=seed) for seed in (0, 0, 1)
    )
    assert not any(seen)
    assert len(one["wide"]["inputs"]) == 4
    assert torch.equal(one["wide"]["inputs"], two["wide"]["inputs"])
    assert not torch.equal(one["wide"]["inputs"], other["wide"]["inputs"])


def test_what_cannot_be_seen_is_refused_before_the_pass(tower):
    def never(model, batch):
        pytest.fail("the pass began")

    with pytest.raises(UsageError, match="moments"):
        lowrank.calibrate(tower(), batches(), never, kinds=["moments"])
    adapted = tower()
    lowrank.attach(adapted, "lora", rank=2)
    with pytest.raises(UsageError, match="adapter already"):
        lowrank.calibrate(adapted, batches(), never)
    coarse = tower()
    lowrank.quantise(coarse)
    with pytest.raises(UsageError, match="quantised"):
        lowrank.calibrate(coarse, batches(), never)
    with pytest.raises(UsageError, match="no batch"):
        lowrank.calibrate(nn.Sequential(nn.Linear(2, 1)), [], never)
    assert set(lowrank.calibrate(coarse, batches(), loss, kinds=["inputs"])["wide"]) == {"inputs"}
