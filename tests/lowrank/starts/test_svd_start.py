"""PiSSA: the factors hold the principal part of W, the frozen part the rest, and W stays what it was."""

import json

import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.errors import UsageError
from lorank.lowrank.forms import FORMS, LoRA


def diagonal():
    linear = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[0.0, 9.0, 0.0], [4.0, 0.0, 0.0]]))
    return nn.ModuleDict({"layer": linear})


@pytest.mark.by_hand("svd")
def test_two_by_three_by_hand():
    model = diagonal()
    form = lowrank.attach(model, "pissa", rank=1).forms["layer"]
    # the top triplet of W: u = e_1, sigma = 9, v = e_2; A = sqrt(9) v^T, B = sqrt(9) u
    torch.testing.assert_close(form.A.detach(), torch.tensor([[0.0, 3.0, 0.0]]))
    torch.testing.assert_close(form.B.detach(), torch.tensor([[3.0], [0.0]]))
    x = torch.tensor([[1.0, 1.0, 1.0]])
    torch.testing.assert_close(model["layer"](x), torch.tensor([[9.0, 4.0]]))
    with torch.no_grad():
        form.B.zero_()  # what is left is the residual of W
    torch.testing.assert_close(model["layer"](x), torch.tensor([[0.0, 4.0]]))


@pytest.mark.parametrize("method", ["lora", "dora"])
@pytest.mark.parametrize(("alpha", "scaling"), [(None, "lora"), (7.0, "lora"), (3.0, "rslora")])
def test_the_factors_are_the_best_approximation_at_any_scale(tower, method, alpha, scaling):
    model = tower(torch.float64)
    adapter = lowrank.attach(model, method, start="svd", rank=3, alpha=alpha, scaling=scaling, targets=["wide"])
    form, weight = adapter.forms["wide"], model.wide.base.weight
    residual = weight - form.scaling * form.B @ form.A
    values = torch.linalg.svdvals(weight)
    torch.testing.assert_close(residual.norm(), values[3:].norm())
    torch.testing.assert_close(torch.linalg.svdvals(residual)[:3], values[3:6])


def test_components_beyond_the_matrix_can_still_learn():
    model = diagonal()
    form = lowrank.attach(model, "pissa", rank=5).forms["layer"]
    model["layer"](torch.ones(1, 3)).sum().backward()
    assert (form.B.grad.abs().sum(0) > 0).all()


def test_the_folder_is_against_the_original_weights(tower, shake, tmp_path):
    model = tower()
    original = model.wide.weight.detach().clone()
    adapter = lowrank.attach(model, "pissa", rank=2, targets=["wide"], scaling="rslora", alpha=3.0)
    shake(adapter)
    assert torch.equal(model.wide.base.weight, original)
    adapter.save(tmp_path / "a")
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert config["r"] == 4
    assert pytest.approx(config["lora_alpha"] / 4**0.5) == pytest.approx(adapter.forms["wide"].scaling, rel=1e-12)
    again = lowrank.load(tower(), tmp_path / "a")
    assert again.settings == adapter.settings
    assert again.forms["wide"].rank == 2
    for key, tensor in adapter.state().items():
        assert torch.equal(again.state()[key], tensor)


def test_a_form_without_factors_is_refused(tower, monkeypatch):
    class Other(LoRA.__base__):
        pass

    monkeypatch.setitem(FORMS, "other", Other)
    with pytest.raises(UsageError, match="does not suit"):
        lowrank.attach(tower(), "other", start="svd")
