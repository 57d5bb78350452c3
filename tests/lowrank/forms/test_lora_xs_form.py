"""LoRA-XS: a 2x3 example worked by hand; the factors are W's own and are not saved."""

import pytest
import torch

from lorank import lowrank


@pytest.mark.by_hand("lora-xs")
def test_two_by_three_by_hand(one_layer, set_tensors):
    # W = 3 e_2 e_1^T + 2 e_1 e_3^T: the triplets are (e_2, 3, e_1) and (e_1, 2, e_3)
    model, form = one_layer([[0.0, 0.0, 2.0], [3.0, 0.0, 0.0]], "lora-xs", rank=2)
    torch.testing.assert_close(form.B @ form.A, model["layer"].weight)
    signs = form.A[0, 0] * form.A[1, 2]  # of the pair of vectors, +1 or -1
    set_tensors(form, R=[[0.0, signs], [0.0, 0.0]])
    # R maps component 2 to component 1: dW = 3 e_2 e_3^T
    expected = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 3.0]], dtype=torch.float64)
    torch.testing.assert_close(form.delta(model["layer"].weight).abs(), expected)


def test_r_squared_values_and_only_those_are_saved(tower, shake, tmp_path):
    model = tower()
    adapter = lowrank.attach(model, "lora-xs", rank=3)
    assert adapter.num_parameters() == 4 * 9 - 9 + 1  # three layers of rank 3, the head of one output rank 1
    assert all(key.endswith(".R") for key in adapter.state())


def test_the_identity_doubles_the_principal_part(tower, set_tensors):
    model = tower(torch.float64)
    form = lowrank.attach(model, "lora-xs", rank=3, targets=["wide"]).forms["wide"]
    set_tensors(form, R=torch.eye(3))
    weight = model.wide.base.weight
    values = torch.linalg.svdvals(weight)
    torch.testing.assert_close(torch.linalg.svdvals(weight + form.delta(weight))[:3], 2 * values[:3])
