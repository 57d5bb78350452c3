"""Asymmetric LoRA: a 2x3 example worked by hand, and the linear teacher whose best B is known."""

import pytest
import torch

from lorank import lowrank


@pytest.mark.by_hand("lora-asymmetry")
def test_two_by_three_by_hand(one_layer, set_tensors):
    model, form = one_layer([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], "lora-asymmetry", rank=1)
    set_tensors(form, A=[[0.6, 0.0, 0.8]], B=[[5.0], [10.0]])
    x = torch.tensor([[1.0, 0.0, 0.5]], dtype=torch.float64)
    y = model["layer"](x)  # A x = 1
    torch.testing.assert_close(y, torch.tensor([[6.0, 10.0]], dtype=torch.float64))


def test_a_has_no_gradient_and_orthonormal_rows(tower):
    form = lowrank.attach(tower(torch.float64), "lora-asymmetry", rank=4, targets=["wide"]).forms["wide"]
    torch.testing.assert_close(form.A @ form.A.T, torch.eye(4, dtype=torch.float64), atol=1e-7, rtol=0)
    assert [name for name, _ in form.named_parameters()] == ["B"]
    assert form.state_dict().keys() == {"B"}


def test_lora_asymmetry_reaches_the_closed_form_of_the_linear_case(one_layer):
    """On ||Y - X (W + s B A)^T||^2 with white X, gradient descent ends at B = T A^T / s for Y's T = Y^T X - W."""
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    model, form = one_layer(torch.zeros(2, 3).tolist(), "lora-asymmetry", rank=2, alpha=4.0)
    X = torch.eye(3, dtype=torch.float64)
    for _ in range(300):
        loss = (model["layer"](X) - target.T).square().sum() / 2
        (gradient,) = torch.autograd.grad(loss, [form.B])
        with torch.no_grad():
            form.B -= 0.1 * gradient
    torch.testing.assert_close(form.B.detach(), target @ form.A.T / form.scaling, atol=1e-6, rtol=1e-6)


def test_with_correlated_inputs_b_alone_is_closer_to_full_lora_than_a_alone():
    """The least losses of both over random frozen factors, from their closed forms, for one linear teacher."""
    width, rank = 12, 3
    generator = torch.Generator().manual_seed(1)

    def orthonormal():
        return torch.linalg.qr(torch.randn(width, rank, generator=generator, dtype=torch.float64)).Q

    target = torch.randn(width, width, generator=generator, dtype=torch.float64)
    covariance = torch.diag(0.6 ** torch.arange(width, dtype=torch.float64))
    best = torch.linalg.svdvals(target @ covariance.sqrt())[rank:].square().sum()
    b_alone, a_alone = [], []
    for _ in range(300):
        A, B = orthonormal().T, orthonormal()
        seen = covariance @ A.T @ torch.linalg.solve(A @ covariance @ A.T, A @ covariance)
        b_alone.append(torch.trace(target @ (covariance - seen) @ target.T))
        rest = target - B @ (B.T @ target)
        a_alone.append(torch.trace(rest @ covariance @ rest.T))
    b_mean, a_mean = torch.stack(b_alone).mean(), torch.stack(a_alone).mean()
    assert best < b_mean < 0.9 * a_mean
