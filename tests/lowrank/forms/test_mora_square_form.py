"""MoRA: a 2x3 example worked by hand, its count and rank against LoRA's, and turned blocks."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.errors import UsageError


@pytest.mark.by_hand("mora-square")
def test_two_by_three_by_hand(one_layer, set_tensors):
    # k = floor(sqrt(5)) = 2; x in blocks (x_0, x_1), (x_2, 0), summed; the output is one block
    model, form = one_layer([[0.0] * 3, [0.0] * 3], "mora-square", rank=1, options={"kind": "sharing"})
    set_tensors(form, M=[[1.0, 10.0], [2.0, 20.0]])
    assert model["layer"](torch.tensor([[1.0, 2.0, 4.0]], dtype=torch.float64)).tolist() == pytest.approx(
        np.array([[25.0, 50.0]])
    )
    assert form.delta(model["layer"].weight).tolist() == pytest.approx(np.array([[1.0, 10.0, 1.0], [2.0, 20.0, 2.0]]))


def test_the_second_block_is_turned_by_one_radian(one_layer, set_tensors):
    model, form = one_layer([[0.0] * 3, [0.0] * 3], "mora-square", rank=1)
    set_tensors(form, M=[[1.0, 0.0], [0.0, 1.0]])
    # (x_2, 0) turned by theta_0 = 1
    expected = torch.tensor([[1.0, 0.0, math.cos(1)], [0.0, 1.0, math.sin(1)]], dtype=torch.float64)
    torch.testing.assert_close(form.delta(model["layer"].weight), expected)


@pytest.mark.parametrize("kind", ["rotation", "sharing"])
def test_mora_square_has_loras_count_and_a_higher_rank(kind, shake):
    model = nn.ModuleDict({"layer": nn.Linear(64, 64, dtype=torch.float64)})
    adapter = lowrank.attach(model, "mora-square", rank=2, options={"kind": kind})
    form = adapter.forms["layer"]
    assert form.delta(model["layer"].weight).abs().max() == 0
    assert adapter.num_parameters() == 16**2 == 2 * (64 + 64)
    shake(adapter)
    assert torch.linalg.matrix_rank(form.delta(model["layer"].weight)) == 16


def test_an_unknown_kind_is_refused(tower):
    with pytest.raises(UsageError, match="rotation"):
        lowrank.attach(tower(), "mora-square", options={"kind": "rotations"})
