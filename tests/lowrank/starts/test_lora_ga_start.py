"""LoRA-GA: a 2x3 example worked by hand, the gradient's directions, and a start that moves nothing."""

import pytest
import torch

from lorank import lowrank


@pytest.mark.by_hand("lora-ga")
def test_two_by_three_by_hand(one_layer):
    # G's triplets are (e_1, 5, e_3) and (e_2, 2, e_1): A takes the first v, B the second u
    gradient = torch.tensor([[0.0, 0.0, 5.0], [2.0, 0.0, 0.0]])
    W = [[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]]
    model, form = one_layer(W, "lora-ga", rank=1, statistics={"layer": {"gradient": gradient}})
    scale = 2**0.25 / 4
    torch.testing.assert_close(form.A.detach().abs(), torch.tensor([[0.0, 0.0, scale]], dtype=torch.float64))
    torch.testing.assert_close(form.B.detach().abs(), torch.tensor([[0.0], [scale]], dtype=torch.float64))
    torch.testing.assert_close(model["layer"](torch.eye(3).double()).T, torch.tensor(W).double())


def test_the_first_step_lies_in_the_gradients_first_directions(tower):
    model, x = tower(torch.float64), torch.randn(9, 6, generator=torch.Generator().manual_seed(0)).double()
    gradient = torch.autograd.grad(model(x).square().sum(), model.wide.weight)[0]
    adapter = lowrank.attach(model, "lora-ga", rank=2, targets=["wide"], statistics={"wide": {"gradient": gradient}})
    form, W = adapter.forms["wide"], model.wide.base.weight
    assert form.delta(W).abs().max() < 1e-14
    model(x).square().sum().backward()
    rate = 1e-6
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter -= rate * parameter.grad
    step = form.delta(W) / (-rate)
    U, s, Vh = torch.linalg.svd(gradient, full_matrices=False)
    c2 = 10**0.5 / 16
    torch.testing.assert_close(step, c2 * (U[:, :4] * s[:4]) @ Vh[:4], atol=1e-4, rtol=1e-3)
