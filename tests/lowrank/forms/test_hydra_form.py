"""Hydra: a 2x3 example worked by hand, merging, and its limits: LoRA and a sequential adapter."""

import numpy as np
import pytest
import torch

from lorank import lowrank


@pytest.mark.by_hand("hydra")
def test_two_by_three_by_hand(one_layer, set_tensors):
    model, form = one_layer([[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]], "hydra", rank=1, alpha=2.0)
    set_tensors(form, A=[1.0, 0.0, 0.0], B=[1.0, 0.0], A_behind=[1.0, 1.0], B_behind=[0.0, 3.0])
    x = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)
    # W x = (7, 2); beside: 2 * 1 * (1, 0); behind: 2 * (7 + 2) * (0, 3)
    assert model["layer"](x).tolist() == pytest.approx(np.array([[9.0, 56.0]]))
    assert form.delta(model["layer"].base.weight).tolist() == pytest.approx(
        np.array([[2.0, 0.0, 0.0], [6.0, 6.0, 12.0]])
    )


def test_hydra_merges_to_both_branches(tower, shake):
    model, x = tower(), torch.ones(2, 6)
    adapter = lowrank.attach(model, "hydra", rank=2, targets=["wide"], alpha=3.0)
    shake(adapter)
    form, W, before = adapter.forms["wide"], model.wide.base.weight, model(x)
    s = form.scaling
    expected = (torch.eye(10) + s * form.B_behind @ form.A_behind) @ W + s * form.B @ form.A
    adapter.merge()
    torch.testing.assert_close(model.wide.base.weight, expected.detach(), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(model(x), before, atol=1e-6, rtol=1e-6)


def test_its_limits_are_lora_and_a_sequential_adapter(tower, shake, set_tensors):
    model, x = tower(torch.float64), torch.ones(2, 6, dtype=torch.float64)
    adapter = lowrank.attach(model, "hydra", rank=2, targets=["wide"])
    shake(adapter)
    form = adapter.forms["wide"]
    lora_model = tower(torch.float64)
    lora = lowrank.attach(lora_model, "lora", rank=2, targets=["wide"]).forms["wide"]
    lora.set_factors(form.A, form.B)
    behind = form.B_behind.detach().clone()
    set_tensors(form, B_behind=torch.zeros(10, 2))
    torch.testing.assert_close(model(x), lora_model(x))
    set_tensors(form, B_behind=behind, B=torch.zeros(10, 2))
    base = model.wide.base
    h = x @ base.weight.T
    torch.testing.assert_close(model.wide(x), h + h @ form.A_behind.T @ behind.T + base.bias)
