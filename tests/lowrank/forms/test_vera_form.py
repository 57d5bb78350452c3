"""VeRA: a 2x3 example worked by hand, bases from the seed alone, and PEFT's update with equal tensors."""

import peft
import pytest
import torch
from torch import nn

from lorank import lowrank


@pytest.mark.by_hand("vera")
def test_two_by_three_by_hand(one_layer, set_tensors):
    model, form = one_layer([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], "vera", rank=1)
    assert form.d.tolist() == pytest.approx([0.1])
    assert form.b.tolist() == [0.0, 0.0]
    set_tensors(form, A__value=[[1.0, 2.0, 3.0]], B__value=[[2.0], [-1.0]], d=[0.5], b=[1.0, 4.0])
    # b * (B (d * (A x))): A x = 6, d * 6 = 3, B 3 = (6, -3), b * that = (6, -12)
    x = torch.ones(1, 3, dtype=torch.float64)
    assert model["layer"](x).tolist() == [[1 + 6, 1 - 12]]
    model["layer"](x).sum().backward()
    assert form.d.grad.tolist() == [6 * (2 - 4)]  # A x sum_o b_o B_o
    assert form.b.grad.tolist() == pytest.approx([6.0, -3.0])  # B (d * A x)


def test_the_bases_are_the_seeds_and_are_not_saved():
    layers = {name: nn.Linear(6, 4) for name in ("one", "two")}
    adapter = lowrank.attach(nn.ModuleDict(layers), "vera", rank=5, seed=3)
    one, two = adapter.forms.values()
    assert one.A is two.A
    assert sorted(adapter.state()) == ["one.b", "one.d", "two.b", "two.d"]
    alone = lowrank.attach(nn.ModuleDict({"other": nn.Linear(6, 4)}), "vera", rank=5, seed=3).forms["other"]
    other = lowrank.attach(nn.ModuleDict({"other": nn.Linear(6, 4)}), "vera", rank=5, seed=4).forms["other"]
    assert torch.equal(alone.B.value, one.B.value)
    assert not torch.equal(other.B.value, one.B.value)


def test_the_update_is_pefts():
    torch.manual_seed(0)
    config = peft.VeraConfig(r=3, target_modules=["layer"], projection_prng_key=1)
    theirs = peft.get_peft_model(nn.ModuleDict({"layer": nn.Linear(6, 5)}), config).base_model.model.layer
    model = nn.ModuleDict({"layer": nn.Linear(6, 5)})
    form = lowrank.attach(model, "vera", rank=3).forms["layer"]
    with torch.no_grad():
        theirs.vera_lambda_b["default"].normal_()
        theirs.vera_lambda_d["default"].normal_()
        form.A.value.copy_(theirs.vera_A["default"][:, :6])
        form.B.value.copy_(theirs.vera_B["default"][:5])
        form.d.copy_(theirs.vera_lambda_d["default"])
        form.b.copy_(theirs.vera_lambda_b["default"])
    delta = form.delta(model["layer"].weight)
    torch.testing.assert_close(delta, theirs.get_delta_weight("default").detach(), atol=1e-6, rtol=1e-6)
