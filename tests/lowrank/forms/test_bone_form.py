"""Bone and MiSS: 2x3 examples worked by hand, W in the update and not, and PEFT's updates."""

import numpy as np
import peft
import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.lowrank.forms.bone import block_side


@pytest.mark.by_hand("bone")
def test_bone_two_by_three_by_hand(one_layer, set_tensors):
    # 2 and 3 have the common divisor 1: blocks are single values, D one value an output
    model, form = one_layer([[1.0, 2.0, 3.0], [0.0, 1.0, -1.0]], "bone", rank=1)
    set_tensors(form, D=[2.0, 10.0])
    # dW[i, j] = W[i, j] D_i + D_i
    assert form.delta(model["layer"].base.weight).tolist() == pytest.approx(
        np.array([[4.0, 6.0, 8.0], [10.0, 20.0, 0.0]])
    )
    x = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    y = model["layer"](x)
    assert y.tolist() == pytest.approx(np.array([[5.0, 10.0]]))
    y.sum().backward()
    assert form.D.grad.flatten().tolist() == pytest.approx(
        [2.0, 1.0]
    )  # (W[i, 0] + 1) x_0: the weight is in the gradient


@pytest.mark.by_hand("miss")
def test_miss_two_by_three_by_hand(one_layer, set_tensors):
    model, form = one_layer([[0.0] * 3, [0.0] * 3], "miss", rank=2)
    set_tensors(form, D=[[1.0, 2.0], [10.0, 20.0]])
    # blocks (x_0, x_1), (x_2, 0): their sum (x_0 + x_2, x_1), times D
    assert model["layer"](torch.tensor([[1.0, 2.0, 4.0]], dtype=torch.float64)).tolist() == pytest.approx(
        np.array([[25.0, 50.0]])
    )
    assert form.delta(model["layer"].base.weight).tolist() == pytest.approx(
        np.array([[1.0, 10.0, 1.0], [2.0, 20.0, 2.0]])
    )


def test_bone_without_d_is_the_base_and_counts_b_d():
    model = nn.ModuleDict({"layer": nn.Linear(12, 8)})
    form = lowrank.attach(model, "bone", rank=4).forms["layer"]
    assert form.side == 4
    assert form.parameter_count() == form.D.numel() == 4 * 8
    assert form.delta(model["layer"].base.weight).abs().max() == 0


@pytest.mark.parametrize(("sides", "limit", "side"), [((6, 10), 5, 2), ((7, 5), 9, 1), ((8, 8), 0, 0), ((8, 8), 64, 8)])
def test_the_side_of_blocks(sides, limit, side):
    assert block_side(*sides, limit) == side


@pytest.mark.parametrize(("method", "start", "rank"), [("bone", "bat", 2), ("miss", True, 2), ("miss", True, 5)])
def test_the_update_is_pefts(method, start, rank):
    torch.manual_seed(0)
    config = peft.MissConfig(r=rank, target_modules=["layer"], init_weights=start)
    linear = nn.Linear(8, 6)
    model = nn.ModuleDict({"layer": nn.Linear(8, 6)})
    model["layer"].load_state_dict(linear.state_dict())
    weight = linear.weight.detach().clone()
    theirs = peft.get_peft_model(nn.ModuleDict({"layer": linear}), config).base_model.model.layer
    form = lowrank.attach(model, method, rank=rank).forms["layer"]
    with torch.no_grad():
        theirs.miss_block["default"].normal_()
        form.D.copy_(theirs.miss_block["default"])
    if start == "bat":
        expected = theirs.get_delta_weight("default", weight.clone()).detach()
    else:
        expected = theirs.get_delta_weight_miss("default", weight.clone()).detach() - weight
    torch.testing.assert_close(form.delta(weight), expected, atol=1e-6, rtol=1e-6)
    x = torch.randn(5, 8)
    torch.testing.assert_close(model["layer"](x), theirs(x), atol=1e-6, rtol=1e-5)
