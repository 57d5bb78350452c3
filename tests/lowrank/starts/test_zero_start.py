"""Zero: the form stands where it was built, so the layer is the base's."""

import numpy as np
import pytest
import torch


@pytest.mark.by_hand("zero")
def test_two_by_three_by_hand(one_layer):
    model, form = one_layer([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], "lora", rank=1, start="zero")
    assert model["layer"](torch.tensor([[1.0, 0.0, -1.0]], dtype=torch.float64)).tolist() == pytest.approx(
        np.array([[-2.0, -2.0]])
    )
    assert form.delta(model["layer"].weight).tolist() == [[0.0] * 3] * 2
    assert form.A.abs().min() > 0
