"""LIFT: a 2x3 example worked by hand, the mask, the state of its size, and masks that move."""

import numpy as np
import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.errors import UsageError

NAME = "lift-principal-weights"


def layer(out=16, width=20, **options):
    torch.manual_seed(0)
    model = nn.ModuleDict({"layer": nn.Linear(width, out, dtype=torch.float64)})
    return model, lowrank.attach(model, NAME, rank=2, options=options)


def steps(model, adapter, count=3):
    optimizer = torch.optim.Adam(adapter.parameters(), lr=0.01)
    x = torch.randn(8, 20, generator=torch.Generator().manual_seed(1)).double()
    for _ in range(count):
        optimizer.zero_grad()
        model["layer"](x).square().sum().backward()
        optimizer.step()
    return optimizer


@pytest.mark.by_hand("lift-principal-weights")
def test_two_by_three_by_hand(one_layer, set_tensors):
    # rank 1 of W keeps 5 alone: its row and column have nothing else, and ties at 0 do not matter for one place
    options = {"share": 1 / 6, "filter_rank": 1, "refreshes": 0}
    model, form = one_layer([[4.0, 0.0, 0.0], [0.0, 0.0, 5.0]], NAME, options=options)
    assert form.places.tolist() == [5]
    set_tensors(form, v=[2.0])
    assert form.delta(model["layer"].weight).tolist() == pytest.approx(np.array([[0.0] * 3, [0.0, 0.0, 2.0]]))
    model["layer"](torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)).sum().backward()
    assert form.v.grad.tolist() == pytest.approx([3.0])


def test_lift_moves_exactly_the_share_and_its_state_has_the_masks_size():
    model, adapter = layer(share=0.05)
    W = model["layer"].weight.detach().clone()
    optimizer = steps(model, adapter)
    form = adapter.forms["layer"]
    delta = form.delta(W)
    assert (delta != 0).sum() == round(0.05 * 16 * 20) == adapter.num_parameters()
    state = optimizer.state[form.v]
    assert state["exp_avg"].numel() == state["exp_avg_sq"].numel() == 16
    U, s, Vh = torch.linalg.svd(W, full_matrices=False)
    part = ((U[:, :2] * s[:2]) @ Vh[:2]).abs()
    assert torch.equal(delta != 0, part >= part.flatten().topk(16).values.min())


def test_the_full_filter_rank_is_magnitude_sparse_tuning():
    model, adapter = layer(share=0.1, filter_rank=16)
    W = model["layer"].weight.abs()
    steps(model, adapter)
    delta = adapter.forms["layer"].delta(W)
    assert torch.equal(delta != 0, W.flatten().topk(32).values.min() <= W)


def test_a_mask_that_moves_keeps_what_was_learned(tmp_path):
    model, adapter = layer(share=0.1, filter_rank=2, refreshes=2)
    form, W = adapter.forms["layer"], model["layer"].base.weight
    with torch.no_grad():
        form.v.copy_(torch.linspace(-2, 2, len(form.v)))
    before, places, values = form.delta(W), form.places.clone(), form.v.detach().clone()
    form.advance(1, 6)
    assert torch.equal(form.places, places)
    form.advance(2, 6)
    assert not torch.equal(form.places, places)
    torch.testing.assert_close(form.delta(W), before)
    stayed = form.places == places
    assert 0 < stayed.sum() < len(places)
    assert torch.equal(form.v[stayed], values[stayed])
    assert form.v[~stayed].abs().max() == 0
    expected = lowrank.forms.lift_principal_weights.principal_places(W + before, 2, len(places))
    assert torch.equal(form.places.sort().values, expected)
    adapter.save(tmp_path / "a")
    fresh, _ = layer()
    again = nn.ModuleDict({"layer": fresh["layer"].base})
    lowrank.load(again, tmp_path / "a")
    x = torch.ones(2, 20, dtype=torch.float64)
    assert torch.equal(again["layer"](x), model["layer"](x))


@pytest.mark.parametrize("options", [{"share": 0}, {"share": 2}, {"filter_rank": 0}, {"refreshes": -1}])
def test_options_outside_their_range_are_refused(options):
    with pytest.raises(UsageError):
        layer(**options)
