"""PMSS: a 2x3 example worked by hand; columns and rows are exact slices of W."""

import numpy as np
import pytest
import torch

from lorank import lowrank
from lorank.lowrank.forms.pmss import pivots


@pytest.mark.by_hand("pmss")
def test_two_by_three_by_hand(one_layer, set_tensors):
    model, form = one_layer([[0.0, 4.0, 1.0], [1.0, 2.0, 0.0]], "pmss", rank=1)
    assert form.C.flatten().tolist() == pytest.approx([4.0, 2.0])  # the longest column
    assert form.R.flatten().tolist() == pytest.approx([0.0, 4.0, 1.0])  # the longest row
    set_tensors(form, M=[[0.5]])
    assert form.delta(model["layer"].weight).tolist() == pytest.approx(np.array([[0.0, 8.0, 2.0], [0.0, 4.0, 1.0]]))


def test_pmss_slices_w_exactly_and_trains_r_squared(tower):
    model, x = tower(), torch.ones(2, 6)
    before = model(x)
    adapter = lowrank.attach(model, "pmss", rank=3, targets=["wide"])
    form, W = adapter.forms["wide"], model.wide.base.weight
    assert adapter.num_parameters() == 3**2
    torch.testing.assert_close(model(x), before)
    for column in form.C.T:
        assert (column == W.T).all(1).any()
    for row in form.R:
        assert (row == W).all(1).any()


def test_the_second_pivot_is_not_parallel_to_the_first():
    matrix = torch.tensor([[3.0, 2.9, 0.0], [0.0, 0.0, 1.0]])
    assert pivots(matrix, 2).tolist() == [0, 2]
