"""ALLoRA: the factor of each row, where it acts, no alpha, and a faster way out of B = 0."""

import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.errors import UsageError
from lorank.lowrank.rules import make_rule


def capped(model, **keywords):
    adapter = lowrank.attach(model, "lora", **keywords)
    for form in adapter.forms.values():
        form.row_cap = 3.0
    return adapter


def test_allora_factor_at_b_0_is_eta_and_falls_with_the_row_norm(tower):
    form = capped(tower(torch.float64), rank=2, targets=["wide"]).forms["wide"]
    torch.testing.assert_close(form.row_rates(), torch.full((10,), 3.0).double())
    with torch.no_grad():
        form.B.normal_()
    norms = (form.B @ form.A).norm(dim=1)
    torch.testing.assert_close(form.row_rates(), 1 / (norms + 1 / 3.0**2).sqrt())
    order = norms.argsort()
    assert (form.row_rates()[order].diff() < 0).all()


@pytest.mark.parametrize("fused", [True, False])
def test_rows_of_the_full_gradient_are_scaled_on_their_way_into_both_factors_and_nothing_else(fused, tower, shake):
    model, x = tower(torch.float64), torch.randn(7, 6).double().requires_grad_()
    adapter = capped(model, rank=2, targets=["wide"])
    shake(adapter)
    layer, form = model.wide, adapter.forms["wide"]
    if not fused:
        layer.base.register_forward_hook(lambda *_: None)
    signal = torch.randn(7, 10).double()
    found = torch.autograd.grad((layer(x) * signal).sum(), [x, form.A, form.B])
    full, rates = signal.t() @ x.detach(), form.row_rates()[:, None]
    torch.testing.assert_close(found[0], signal @ (layer.base.weight + form.B @ form.A))
    torch.testing.assert_close(found[1], form.B.t() @ (rates * full))
    torch.testing.assert_close(found[2], rates * full @ form.A.t())


def test_there_is_no_alpha_and_no_dropout(tower):
    for keywords in ({"alpha": 4.0}, {"dropout": 0.1}, {"scaling": "rslora"}):
        adapter = lowrank.attach(tower(), rank=2, **keywords)
        with pytest.raises(UsageError, match="neither alpha nor dropout"):
            lowrank.optimizer("allora", adapter, lr=0.1)
    with pytest.raises(UsageError, match="no option 'alpha'"):
        make_rule("allora", alpha=4.0)


def test_allora_leaves_b_0_faster_than_lora(walk):
    """By gradient descent at one rate: B's first step is eta times as long, and the loss falls further in ten."""
    gains, firsts = {}, {}
    for eta in (None, 1.0, 4.0):
        torch.manual_seed(0)
        model = nn.ModuleDict({"layer": nn.Linear(20, 10, bias=False).double()})
        target, x = model["layer"].weight.detach() + torch.randn(10, 20).double(), torch.randn(64, 20).double()
        adapter = lowrank.attach(model, rank=4)
        name, options = ("plain", {}) if eta is None else ("allora", {"eta": eta, "inner": "sgd"})

        def loss(step, model=model, x=x, target=target):
            return (model["layer"](x) - x @ target.t()).square().sum(1).mean()

        start = float(loss(0).detach())
        run = walk(adapter, Plain() if name == "plain" else make_rule(name, **options), loss, 1, of=10, lr=0.002)
        firsts[eta] = adapter.forms["layer"].B.norm().item()
        run.go(9)
        gains[eta] = start - float(loss(0).detach())
    assert abs(firsts[4.0] / firsts[None] - 4.0) < 1e-6
    assert abs(firsts[1.0] / firsts[None] - 1.0) < 1e-6
    assert gains[4.0] > 2 * gains[None] > 0


class Plain(lowrank.Rule):
    """Gradient descent."""

    def optimizer(self, groups, adapter, rates):
        return torch.optim.SGD(groups, lr=rates.lr)
