"""SingLoRA: a 2x3 example worked by hand, symmetry, the ramp, and invariance to rotations."""

import numpy as np
import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.errors import UsageError


def square(shake, rank=2):
    model = nn.ModuleDict({"layer": nn.Linear(6, 6, dtype=torch.float64)})
    adapter = lowrank.attach(model, "singlora", rank=rank)
    shake(adapter)
    return model["layer"].weight, adapter


@pytest.mark.by_hand("singlora")
def test_two_by_three_by_hand(one_layer, set_tensors):
    model, form = one_layer([[0.0] * 3, [0.0] * 3], "singlora", rank=1, alpha=2.0, options={"ramp": 0.5})
    set_tensors(form, A=[1.0, 2.0, 3.0])
    form.advance(1, 4)  # half of the ramp of two steps
    # s u A_out A_in^T = 2 * 0.5 (1, 2) (1, 2, 3)^T
    assert form.delta(model["layer"].weight).tolist() == pytest.approx(np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]]))
    assert model["layer"](torch.eye(3).double()).T.tolist() == pytest.approx(
        np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]])
    )


def test_singlora_is_symmetric_and_positive_with_half_of_loras_values(shake):
    weight, adapter = square(shake)
    delta = adapter.forms["layer"].delta(weight)
    torch.testing.assert_close(delta, delta.T)
    assert torch.linalg.eigvalsh(delta).min() > -1e-12
    assert adapter.num_parameters() * 2 == 2 * (6 + 6)


def test_it_starts_at_zero_and_ramps_to_one(shake):
    model = nn.ModuleDict({"layer": nn.Linear(6, 4, dtype=torch.float64)})
    form = lowrank.attach(model, "singlora", rank=2, options={"ramp": 0.1}).forms["layer"]
    deltas = []
    for step in (0, 5, 10, 100):
        form.advance(step, 100)
        deltas.append(form.delta(model["layer"].weight))
    assert deltas[0].abs().max() == 0
    torch.testing.assert_close(deltas[1], deltas[2] / 2)
    assert torch.equal(deltas[2], deltas[3])


def test_rotations_of_the_factor_change_nothing(shake, set_tensors):
    weight, adapter = square(shake)
    form = adapter.forms["layer"]
    before = form.delta(weight)
    Q = torch.linalg.qr(torch.randn(2, 2, generator=torch.Generator().manual_seed(0)).double()).Q
    set_tensors(form, A=form.A.detach() @ Q)
    torch.testing.assert_close(form.delta(weight), before)


def test_a_ramp_outside_its_range_is_refused(tower):
    with pytest.raises(UsageError, match="ramp"):
        lowrank.attach(tower(), "singlora", options={"ramp": 0})
