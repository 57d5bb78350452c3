"""Gated: a sum of rank-1 components under gates and a mask. What budgets do with them is tested with the budgets."""

import numpy as np
import pytest
import torch


@pytest.mark.by_hand("gated")
def test_two_by_three_by_hand(one_layer, set_tensors):
    model, form = one_layer([[0.0] * 3, [0.0] * 3], "gated", rank=2, alpha=4.0)
    set_tensors(form, A=[[1.0, 2.0, 3.0], [0.0, 1.0, 0.0]], B=[[1.0, 0.0], [2.0, 1.0]], gate=[2.0, 10.0])
    # s = 2: 2 * 2 (1, 2)^T (1, 2, 3) + 2 * 10 (0, 1)^T (0, 1, 0)
    assert form.delta(model["layer"].weight).tolist() == pytest.approx(np.array([[4.0, 8.0, 12.0], [8.0, 36.0, 24.0]]))
    form.switch(torch.tensor([True, False]))
    assert form.delta(model["layer"].weight).tolist() == pytest.approx(np.array([[4.0, 8.0, 12.0], [8.0, 16.0, 24.0]]))
    y = model["layer"](torch.tensor([[1.0, 0.0, -1.0]], dtype=torch.float64))
    assert y.tolist() == pytest.approx(np.array([[-8.0, -16.0]]))
    y.sum().backward()
    assert form.gate.grad.tolist() == pytest.approx([-12.0, 0.0])  # s (b_0 + b_1) a^T x of the component that is on
