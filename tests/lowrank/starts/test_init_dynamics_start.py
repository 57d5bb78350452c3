"""Init[A] and Init[B]: both start at 0, and the largest stable learning rates over widths."""

import pytest
import torch
from torch import nn

from lorank import lowrank

WIDTHS = (16, 64, 256, 1024)


@pytest.mark.by_hand("init-b")
def test_two_by_three_by_hand(one_layer):
    model, form = one_layer([[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]], "lora-init-b", rank=1)
    assert form.A.tolist() == [[0.0] * 3]
    B = form.B.detach().clone()
    model["layer"](torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)).sum().backward()
    # dA = (sum_o B_o) x^T, and B has no gradient yet
    torch.testing.assert_close(form.A.grad, B.sum() * torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64))
    assert form.B.grad.abs().max() == 0


def test_the_catalogue_knows_them():
    assert "lora-init-dynamics" in {method.id for method in lowrank.methods("adapters.init")}


@pytest.mark.parametrize("method", ["lora-init-a", "lora-init-b"])
def test_both_start_at_zero_with_one_factor_random(method, tower):
    model = tower()
    form = lowrank.attach(model, method, rank=4, targets=["wide"]).forms["wide"]
    assert form.delta(model.wide.base.weight).abs().max() == 0
    zero, drawn = (form.B, form.A) if method == "lora-init-a" else (form.A, form.B)
    assert zero.abs().max() == 0
    assert drawn.abs().min() > 0


def largest_stable_rate(method, width):
    """The largest of the rates 2^-k with which 20 steps of Adam on one example lower the loss."""
    generator = torch.Generator().manual_seed(width)
    x, target = torch.randn(2, 1, width, generator=generator)
    for exponent in range(16):
        model = nn.ModuleDict({"layer": nn.Linear(width, width, bias=False)})
        nn.init.zeros_(model["layer"].weight)
        adapter = lowrank.attach(model, method, rank=4, seed=1)
        optimizer, losses = torch.optim.Adam(adapter.parameters(), lr=2.0**-exponent), []
        for _ in range(20):
            optimizer.zero_grad()
            loss = (model["layer"](x) - target).square().mean()
            losses.append(loss.item())
            loss.backward()
            optimizer.step()
        if max(losses) <= losses[0] * 1.01 and losses[-1] < losses[0]:
            return 2.0**-exponent
    raise AssertionError("no stable rate")


def test_lora_init_dynamics_init_a_bears_larger_rates_the_wider_the_layer():
    ratios = [largest_stable_rate("lora-init-a", n) / largest_stable_rate("lora-init-b", n) for n in WIDTHS]
    assert min(ratios) > 1
    assert ratios[-1] > ratios[0]


@pytest.mark.by_hand("init-a")
def test_two_by_three_by_hand_from_init_a(one_layer):
    model, form = one_layer([[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]], "lora-init-a", rank=1)
    assert form.B.tolist() == [[0.0], [0.0]]
    x = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)
    model["layer"](x).sum().backward()
    # dB = dy (A x)^T, and A has no gradient yet
    torch.testing.assert_close(form.B.grad, (form.A.detach() @ x.t()).expand(2, 1))
    assert form.A.grad.abs().max() == 0
