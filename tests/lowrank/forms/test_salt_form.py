"""SALT: a 2x3 example worked by hand, its count, and its limits: singular values alone, and LoRA."""

import pytest
import torch

from lorank import lowrank
from lorank.errors import UsageError


@pytest.mark.by_hand("salt")
def test_two_by_three_by_hand(one_layer, set_tensors):
    model, form = one_layer([[5.0, 0.0, 0.0], [0.0, 3.0, 0.0]], "salt", rank=1, alpha=2.0, options={"top": 1})
    set_tensors(form, scale=[2.0], shift=[1.0], A=[7.0, 1.0, 2.0], B=[7.0, 1.0])
    # the top value 5 becomes 2 * 5 + 1; what is left for B A has neither row 0 nor column 0
    W = model["layer"].base.weight
    torch.testing.assert_close(
        W + form.delta(W), torch.tensor([[11.0, 0.0, 0.0], [0.0, 5.0, 4.0]], dtype=torch.float64)
    )


def test_salt_with_all_values_tunes_singular_values_alone(tower, shake):
    model = tower(torch.float64)
    adapter = lowrank.attach(model, "salt", rank=2, targets=["wide"], options={"top": 6})
    assert adapter.num_parameters() == 2 * 6 + 2 * (10 + 6)
    shake(adapter)
    form, W = adapter.forms["wide"], model.wide.base.weight
    U, sigma, Vh = torch.linalg.svd(W, full_matrices=False)
    middle = U.T @ (W + form.delta(W)) @ Vh.T
    expected = form.scale * sigma + form.shift
    torch.testing.assert_close(middle, torch.diag(expected).detach(), atol=1e-10, rtol=1e-10)


def test_salt_without_values_is_lora(tower, shake):
    models = tower(torch.float64), tower(torch.float64)
    salt = lowrank.attach(models[0], "salt", rank=2, alpha=3.0, targets=["wide"], options={"top": 0})
    lora = lowrank.attach(models[1], "lora", rank=2, alpha=3.0, targets=["wide"])
    assert salt.num_parameters() == lora.num_parameters()
    shake(salt)
    lora.load_state(salt.state())
    x = torch.ones(2, 6, dtype=torch.float64)
    torch.testing.assert_close(models[0](x), models[1](x))


def test_a_negative_number_of_values_is_refused(tower):
    with pytest.raises(UsageError, match="top"):
        lowrank.attach(tower(), "salt", options={"top": -1})
