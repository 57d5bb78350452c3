"""BoRA: a 2x3 example worked by hand, norms from the factors, and DoRA over columns as its limit."""

import pytest
import torch

from lorank import lowrank


@pytest.mark.by_hand("bora")
def test_two_by_three_by_hand(one_layer, set_tensors):
    model, form = one_layer([[3.0, 0.0, 0.0], [4.0, 2.0, 1.0]], "bora", rank=1)
    torch.testing.assert_close(form.magnitude_in.detach(), torch.tensor([5.0, 2.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(form.magnitude_out.detach(), torch.tensor([3.0, 21**0.5], dtype=torch.float64))
    set_tensors(form, A=[1.0, 0.0, 0.0], B=[-3.0, -1.0], magnitude_in=[6.0, 2.0, 1.0], magnitude_out=[1.0, 7.0])
    # V = [[0, 0, 0], [3, 2, 1]]: columns 3, 2, 1, so V1 = [[0, 0, 0], [6, 2, 1]], rows 0 and sqrt(41)
    expected = torch.tensor([[0.0, 0.0, 0.0], [6.0, 2.0, 1.0]], dtype=torch.float64) * 7 / 41**0.5
    W = model["layer"].base.weight
    torch.testing.assert_close(W + form.delta(W), expected)
    torch.testing.assert_close(model["layer"](torch.eye(3).double()).T, expected)


def test_bora_norms_are_those_of_the_dense_matrices(tower, shake):
    model = tower(torch.float64)
    adapter = lowrank.attach(model, "bora", rank=2, targets=["wide"], alpha=3.0)
    assert adapter.num_parameters() == 2 * 16 + 16
    shake(adapter)
    form, W = adapter.forms["wide"], model.wide.base.weight
    V = (W + form.scaling * form.B @ form.A).detach()
    columns, rows = form.norms(W)
    torch.testing.assert_close(columns, V.norm(dim=0))
    V1 = V * form.magnitude_in.detach() / columns
    torch.testing.assert_close(rows, V1.norm(dim=1))
    torch.testing.assert_close((W + form.delta(W)).norm(dim=1), form.magnitude_out.detach().abs())


def test_with_rows_held_at_their_norms_it_is_dora_over_columns(tower, shake):
    model = tower(torch.float64)
    adapter = lowrank.attach(model, "bora", rank=2, targets=["wide"])
    shake(adapter)
    form, W = adapter.forms["wide"], model.wide.base.weight
    V = (W + form.scaling * form.B @ form.A).detach()
    with torch.no_grad():
        form.magnitude_out.copy_(form.norms(W)[1])
    expected = V / V.norm(dim=0) * form.magnitude_in.detach()
    torch.testing.assert_close(W + form.delta(W), expected)
