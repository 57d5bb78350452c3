"""TAPS: lambda decides how much is shared, and only what is the task's own is stored."""

import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.lowrank.routing.taps import own_layers, stored_parameters


class Two(nn.Module):
    """Two layers in a row, of which the task needs to change the second alone."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


def trained(sparsity, steps=150):
    model = Two()
    x = torch.randn(100, 8)
    with torch.no_grad():
        hidden = torch.tanh(model.first(x))
        y = hidden @ (model.second.weight + torch.randn(8, 8)).t() + model.second.bias
    adapter = lowrank.attach(model, "taps", rank=4, options={"sparsity": sparsity})
    optimizer = torch.optim.Adam(adapter.parameters(), lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        (loss + sum(form.penalty() for form in adapter.forms.values())).backward()
        optimizer.step()
    return model, adapter


def test_taps_without_a_price_owns_all_layers_and_at_any_price_shares_all():
    assert own_layers(trained(0.0)[1]) == ["first", "second"]
    model, adapter = trained(1e3)
    assert own_layers(adapter) == []
    assert stored_parameters(adapter) == 0
    x = torch.randn(3, 8)
    assert torch.equal(model(x), Two()(x))


def test_in_between_the_layer_that_matters_is_the_tasks_own():
    _, adapter = trained(0.3)
    assert own_layers(adapter) == ["second"]
    assert stored_parameters(adapter) == 4 * (8 + 8)


def test_the_score_gets_the_straight_through_gradient():
    model = Two().double()
    adapter = lowrank.attach(model, "taps", rank=2)
    form, x = adapter.forms["second"], torch.randn(5, 8).double()
    with torch.no_grad():
        form.B.normal_()
        for score in (0.5, 0.05):
            form.score.fill_(score)
            with torch.enable_grad():
                update = form.update(x, None, None)
                (gradient,) = torch.autograd.grad(update.sum(), form.score)
            full = form.scaling * x @ form.A.t() @ form.B.t()
            torch.testing.assert_close(update, full if score == 0.5 else torch.zeros_like(full))
            torch.testing.assert_close(gradient, full.sum())


def test_an_export_holds_own_layers_alone(tmp_path):
    from safetensors.torch import load_file

    model, adapter = trained(0.3)
    adapter.export(tmp_path / "portable", "portable")
    tensors = load_file(tmp_path / "portable" / "adapter_model.safetensors")
    assert all(tensor.abs().max() == 0 for key, tensor in tensors.items() if "first" in key)
    fresh, x = Two(), torch.randn(3, 8)
    lowrank.load(fresh, tmp_path / "portable")
    torch.testing.assert_close(fresh(x), model(x))


@pytest.mark.by_hand("taps")
def test_two_by_three_by_hand(one_layer, set_tensors):
    model, form = one_layer([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], "taps", rank=1, options={"threshold": 0.25})
    x = torch.ones(1, 3).double()
    for score, y in ((0.5, [[7.0, 13.0]]), (0.125, [[1.0, 1.0]])):
        set_tensors(form, A=[[1.0, 2.0, 3.0]], B=[[1.0], [2.0]], score=score)
        form.zero_grad()
        scores = model["layer"](x)
        assert scores.tolist() == y  # W x = (1, 1), B A x = (6, 12) while the score is at least 1/4
        scores.sum().backward()
        assert form.score.grad.item() == pytest.approx(18.0)  # straight through, on either side
        assert form.penalty().item() == pytest.approx(0.01 * score)
