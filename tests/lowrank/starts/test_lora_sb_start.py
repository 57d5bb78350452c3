"""LoRA-SB: a 2x3 example worked by hand, orthonormal factors, the best approximation, and no scale."""

import pytest
import torch

from lorank import lowrank
from lorank.lowrank.starts.lora_sb import LoRASB


def attach(model, **keywords):
    generator = torch.Generator().manual_seed(0)
    gradient = torch.randn(10, 6, generator=generator, dtype=torch.float64)
    seen = {"wide": {"gradient": gradient}}
    keywords = {"rank": 3, "targets": ["wide"], "statistics": seen} | keywords
    return gradient, lowrank.attach(model, "lora-sb", **keywords)


@pytest.mark.by_hand("lora-sb")
def test_two_by_three_by_hand(one_layer):
    # sign(G) = [[1, 1, 1], [0, 0, 0]] = sqrt(3) e_1 (1, 1, 1) / sqrt(3)
    gradient = torch.tensor([[2.0, 5.0, 0.1], [0.0, 0.0, 0.0]])
    W = [[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]]
    model, form = one_layer(W, "lora-sb", rank=1, statistics={"layer": {"gradient": gradient}})
    torch.testing.assert_close(form.R.detach().abs(), torch.tensor([[1e-4 * 3**0.5]], dtype=torch.float64))
    expected = torch.tensor([[-1e-4] * 3, [0.0] * 3], dtype=torch.float64)
    torch.testing.assert_close(form.delta(model["layer"].weight), expected)


def test_the_factors_are_orthonormal_and_the_start_is_the_best_approximation(tower):
    model = tower(torch.float64)
    gradient, adapter = attach(model)
    form, eye = adapter.forms["wide"], torch.eye(3).double()
    torch.testing.assert_close(form.A @ form.A.T, eye)
    torch.testing.assert_close(form.B.T @ form.B, eye)
    assert adapter.num_parameters() == 3**2
    first = -1e-4 * gradient.sign()
    error = (first - form.delta(model.wide.base.weight)).norm()
    torch.testing.assert_close(error, torch.linalg.svdvals(first)[3:].norm(), atol=1e-5, rtol=1e-5)


def test_alpha_changes_nothing(tower):
    states = []
    x = torch.ones(2, 6, dtype=torch.float64)
    for alpha in (1.0, 48.0):
        model = tower(torch.float64)
        _, adapter = attach(model, alpha=alpha)
        optimizer = torch.optim.SGD(adapter.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()
        states.append(adapter.forms["wide"].delta(model.wide.base.weight))
    assert torch.equal(*states)


def test_with_orthonormal_factors_the_gradient_of_r_is_the_best_for_the_weights(tower):
    """The step of R whose dW is nearest to -G: (B^T B)^-1 g_R (A A^T)^-1, which is g_R itself."""
    model = tower(torch.float64)
    _, adapter = attach(model)
    form = adapter.forms["wide"]
    model(torch.ones(2, 6, dtype=torch.float64)).square().sum().backward()
    g = form.R.grad
    best = torch.linalg.inv(form.B.T @ form.B) @ g @ torch.linalg.inv(form.A @ form.A.T)
    torch.testing.assert_close(best, g)


def test_the_first_loss_is_lower_than_the_bases(tower):
    model, x = tower(torch.float64), torch.ones(2, 6, dtype=torch.float64)
    loss = model(x).square().sum()
    gradient = torch.autograd.grad(loss, model.wide.weight)[0]
    adapter = lowrank.attach(model, "lora-sb", rank=4, targets=["wide"], statistics={"wide": {"gradient": gradient}})
    assert model(x).square().sum() < loss
    assert LoRASB.keeps_output is False
    assert adapter.settings.form == "lora-core"
