"""EDoRA: a 2x3 example worked by hand, its count, and its norm without the weight."""

import pytest
import torch

from lorank import lowrank


@pytest.mark.by_hand("edora")
def test_two_by_three_by_hand(one_layer, set_tensors):
    # W = diag(3, 2): triplets (e_1, 3, e_1) and (e_2, 2, e_2), so B = U sigma = diag(3, 2) and A = I
    model, form = one_layer([[3.0, 0.0, 0.0], [0.0, 2.0, 0.0]], "edora", rank=2)
    assert form.magnitude.tolist() == pytest.approx([3.0, 2.0])
    set_tensors(form, R=[[0.0, 4 / 3], [0.0, 0.0]], magnitude=[10.0, 2.0])
    # V = [[3, 4, 0], [0, 2, 0]] with norms 5 and 2
    expected = torch.tensor([[6.0, 8.0, 0.0], [0.0, 2.0, 0.0]], dtype=torch.float64)
    W = model["layer"].base.weight
    torch.testing.assert_close(W + form.delta(W), expected)
    torch.testing.assert_close(model["layer"](torch.eye(3).double()).T, expected)


def test_edora_counts_r_squared_and_a_magnitude_and_starts_at_r_zero(tower, shake):
    model = tower(torch.float64)
    x = torch.ones(2, 6, dtype=torch.float64)
    before = model(x)
    adapter = lowrank.attach(model, "edora", rank=3, targets=["wide"], alpha=6.0)
    form, W = adapter.forms["wide"], model.wide.base.weight
    assert adapter.num_parameters() == 3**2 + 10
    assert form.R.abs().max() == 0
    torch.testing.assert_close(model(x), before)
    shake(adapter)
    V = W + form.scaling * form.B @ form.R @ form.A
    torch.testing.assert_close(form.norm(), V.norm(dim=1).detach())
    torch.testing.assert_close(W + form.delta(W), (V / V.norm(dim=1, keepdim=True)).detach() * form.magnitude[:, None])
    assert sorted(form.state_dict()) == ["R", "magnitude"]
