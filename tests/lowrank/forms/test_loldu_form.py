"""LoLDU: a 2x3 example worked by hand, frozen triangles, a saved factor, and pivots of zero."""

import numpy as np
import pytest
import torch

from lorank import lowrank


@pytest.mark.by_hand("loldu")
def test_two_by_three_by_hand(one_layer, set_tensors):
    # rows swapped: W = P L diag(2, 3) U with L = [[1, 0], [0.5, 1]], U = [[1, 2, 0], [0, 1, 1]]
    model, form = one_layer([[1.0, 5.0, 3.0], [2.0, 4.0, 0.0]], "loldu", rank=2)
    assert form.z.tolist() == pytest.approx([2.0, 3.0])
    assert form.c.tolist() == pytest.approx([1.0])
    assert form.A.tolist() == pytest.approx(np.array([[1.0, 2.0, 0.0], [0.0, 1.0, 1.0]]))
    assert form.B.tolist() == pytest.approx(np.array([[0.5, 1.0], [1.0, 0.0]]))
    set_tensors(form, z=[4.0, 1.0], c=[2.0])
    # the diagonal becomes (8, 2): rows 8 (1, 2, 0) below, 0.5 * 8 (1, 2, 0) + 2 (0, 1, 1) above
    W = model["layer"].base.weight
    assert (W + form.delta(W)).tolist() == pytest.approx(np.array([[4.0, 10.0, 2.0], [8.0, 16.0, 0.0]]))


def test_loldu_trains_r_values_and_a_factor_which_is_saved(tower, shake, tmp_path):
    model, x = tower(torch.float64), torch.ones(2, 6, dtype=torch.float64)
    before = model(x)
    adapter = lowrank.attach(model, "loldu", rank=3, targets=["wide"], alpha=6.0)
    torch.testing.assert_close(model(x), before)
    assert adapter.num_parameters() == 3 + 1
    form = adapter.forms["wide"]
    triangles = form.A.clone(), form.B.clone()
    assert torch.equal(form.A[:, :3].tril(), torch.eye(3).double())
    shake(adapter)
    assert torch.equal(form.A, triangles[0])
    assert torch.equal(form.B, triangles[1])
    adapter.save(tmp_path / "a")
    fresh = tower(torch.float64)
    lowrank.load(fresh, tmp_path / "a")
    torch.testing.assert_close(fresh(x), model(x))


def test_pivots_of_zero_are_not_divided_by(one_layer):
    model, form = one_layer([[0.0, 1.0, 2.0], [0.0, 2.0, 4.0]], "loldu", rank=2)
    y = model["layer"](torch.ones(1, 3).double())
    y.sum().backward()
    torch.testing.assert_close(y, torch.tensor([[3.0, 6.0]], dtype=torch.float64))
    assert form.z.grad.isfinite().all()
