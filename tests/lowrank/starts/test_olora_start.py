"""OLoRA: a 2x3 example worked by hand, orthonormal columns, W untouched, and PEFT's start."""

import peft
import pytest
import torch

from lorank import lowrank


@pytest.mark.by_hand("olora")
def test_two_by_three_by_hand(one_layer):
    # Q R of [[3, 1, 0], [4, 3, 5]]: q_1 = +-(0.6, 0.8), R's first row q_1^T W
    W = [[3.0, 1.0, 0.0], [4.0, 3.0, 5.0]]
    model, form = one_layer(W, "olora", rank=1)
    sign = form.B[0, 0].sign()
    torch.testing.assert_close(sign * form.B.detach().flatten(), torch.tensor([0.6, 0.8], dtype=torch.float64))
    torch.testing.assert_close(sign * form.A.detach().flatten(), torch.tensor([5.0, 3.0, 4.0], dtype=torch.float64))
    torch.testing.assert_close(model["layer"](torch.eye(3).double()).T, torch.tensor(W).double())
    with torch.no_grad():
        form.B.zero_()  # the residual is left
    residual = torch.tensor([[0.0, -0.8, -2.4], [0.0, 0.6, 1.8]], dtype=torch.float64)
    torch.testing.assert_close(model["layer"](torch.eye(3).double()).T, residual)


def test_b_is_orthonormal_and_w_stays(tower):
    model = tower(torch.float64)
    W = model.wide.weight.detach().clone()
    form = lowrank.attach(model, "olora", rank=3, targets=["wide"], alpha=6.0).forms["wide"]
    torch.testing.assert_close((form.B.T @ form.B).detach(), torch.eye(3).double())
    assert torch.equal(model.wide.base.weight, W)
    assert form.delta(W).abs().max() < 1e-14


def test_the_start_is_pefts(tower):
    model = tower()
    form = lowrank.attach(model, "olora", rank=2, alpha=4.0, targets=["wide"]).forms["wide"]
    config = peft.LoraConfig(r=2, lora_alpha=4, target_modules=["wide"], init_lora_weights="olora")
    theirs = peft.get_peft_model(tower(), config).base_model.model.wide
    torch.testing.assert_close(form.A.detach(), theirs.lora_A["default"].weight.detach(), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(form.B.detach(), theirs.lora_B["default"].weight.detach(), atol=1e-6, rtol=1e-5)
    residual = model.wide.base.weight - form.scaling * form.B0 @ form.A0
    torch.testing.assert_close(residual, theirs.base_layer.weight, atol=1e-6, rtol=1e-5)
