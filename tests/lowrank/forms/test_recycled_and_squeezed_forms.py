"""eigenlorax, lora-squeeze and lora-core: examples worked by hand. Their own facts are with the algebra."""

import numpy as np
import pytest
import torch
from torch import nn

from lorank import lowrank


@pytest.mark.by_hand("eigenlorax")
def test_eigenlorax_two_by_three_by_hand(one_layer, set_tensors):
    model, form = one_layer(
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], "eigenlorax", rank=1, alpha=2.0, options={"components": 2}
    )
    set_tensors(form, V=[[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], U=[[0.0, 1.0], [1.0, 0.0]])
    set_tensors(form, c_A=[[3.0, 4.0]], c_B=[[5.0], [6.0]])
    # A = (3, 0, 4), B = (6, 5), s = 2
    assert form.delta(model["layer"].weight).tolist() == pytest.approx(np.array([[36.0, 0.0, 48.0], [30.0, 0.0, 40.0]]))
    assert model["layer"](torch.tensor([[1.0, 2.0, -1.0]], dtype=torch.float64)).tolist() == pytest.approx(
        np.array([[-11.0, -8.0]])
    )


@pytest.mark.by_hand("lora-squeeze")
def test_lora_squeeze_two_by_three_by_hand(one_layer, set_tensors):
    model, form = one_layer(
        [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]], "lora-squeeze", rank=2, alpha=4.0, options={"target": 1, "stages": 1}
    )
    set_tensors(form, A=[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], B=[[4.0, 0.0], [0.0, 9.0]])
    assert form.delta(model["layer"].weight).tolist() == pytest.approx(np.array([[8.0, 0.0, 0.0], [0.0, 18.0, 0.0]]))
    form.advance(2, 3)  # the smaller of 8 and 18 goes, s = 2 stays: A' = 3, B' = 3 in the second place
    torch.testing.assert_close(
        form.A.detach().abs(), torch.tensor([[0.0, 3.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    )
    torch.testing.assert_close(form.B.detach().abs(), torch.tensor([[0.0, 0.0], [3.0, 0.0]], dtype=torch.float64))
    torch.testing.assert_close(
        model["layer"](torch.ones(1, 3).double()), torch.tensor([[0.0, 18.0]], dtype=torch.float64)
    )


@pytest.mark.by_hand("lora-core")
def test_lora_core_two_by_three_by_hand(one_layer, set_tensors):
    model, form = one_layer([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], "lora-core", rank=2, alpha=9.0)
    set_tensors(form, A=[[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], B=[[0.0, 1.0], [1.0, 0.0]], R=[[1.0, 2.0], [3.0, 4.0]])
    # B R A without a scale: R's rows change places
    assert form.delta(model["layer"].weight).tolist() == pytest.approx(np.array([[3.0, 0.0, 4.0], [1.0, 0.0, 2.0]]))
    assert model["layer"](torch.ones(1, 3).double()).tolist() == pytest.approx(np.array([[8.0, 4.0]]))


def test_without_a_library_eigenlorax_works_in_the_principal_directions_of_the_weight():
    torch.manual_seed(0)
    model = nn.ModuleDict({"layer": nn.Linear(9, 7)})
    adapter = lowrank.attach(model, "eigenlorax", rank=2, options={"components": 3})
    form = adapter.forms["layer"]
    U, _, Vh = torch.linalg.svd(model["layer"].weight)
    torch.testing.assert_close(form.V.t() @ form.V, Vh[:3].t() @ Vh[:3], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(form.U @ form.U.t(), U[:, :3] @ U[:, :3].t(), atol=1e-5, rtol=1e-5)
