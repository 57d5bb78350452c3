"""Norms of DoRA, BoRA and EDoRA: once in evaluation, and anew whenever anything they are made of changes."""

import copy
import pickle

import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.lowrank.forms.remembered import WHOLE, Remembered

NORMALISED = {"dora": "norm", "bora": "norms", "edora": "norm"}
every_form = pytest.mark.parametrize("method", NORMALISED)


def layer(method, shake, size=(6, 10), **keywords):
    torch.manual_seed(0)
    model = nn.ModuleDict({"layer": nn.Linear(*size)})
    adapter = lowrank.attach(model, method, rank=2, **keywords)
    shake(adapter)
    return model.eval(), adapter.forms["layer"], torch.randn(3, size[0])


def reference(model, form, x):
    """What the layer computes with nothing kept: the merged weight's product."""
    base = model["layer"].base
    return nn.functional.linear(x, base.weight + form.delta(base.weight), base.bias)


@every_form
def test_the_products_with_the_weight_are_made_once_in_evaluation_and_at_every_step_in_training(
    method, shake, monkeypatch
):
    model, form, x = layer(method, shake)
    calls = []
    made = Remembered.of

    def counted(self, tensors, make):
        return made(self, tensors, lambda: (calls.append(1), make())[1])

    monkeypatch.setattr(Remembered, "of", counted)
    for _ in range(3):
        model["layer"](x)
    assert 1 <= len(calls) <= 2
    norm = getattr(type(form), NORMALISED[method])
    model.train()
    steps = []
    if method != "edora":
        monkeypatch.setattr(type(form), NORMALISED[method], lambda *a, **k: (steps.append(1), norm(*a, **k))[1])
        for _ in range(3):
            model["layer"](x)
        assert len(steps) == 3


def in_place(form, base):
    with torch.no_grad():
        next(form.parameters()).add_(0.3)


def through_data(form, base):
    for parameter in form.parameters():
        parameter.data.mul_(1.5)


def other_memory(form, base):
    for parameter in form.parameters():
        parameter.data = parameter.data * 0.5


def by_a_state(form, base):
    form.load_state_dict({key: value + 0.2 for key, value in form.state_dict().items()})


def by_an_optimizer(form, base):
    optimizer = torch.optim.AdamW(form.parameters(), lr=0.1)
    for parameter in form.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()


def of_the_weight(form, base):
    with torch.no_grad():
        base.weight.mul_(1.7)


def of_the_weight_through_data(form, base):
    base.weight.data.add_(0.4)


def another_weight(form, base):
    base.weight = nn.Parameter(torch.randn_like(base.weight), requires_grad=False)


FACTORS = [in_place, through_data, other_memory, by_a_state, by_an_optimizer]
WEIGHT = [of_the_weight, of_the_weight_through_data, another_weight]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize(
    ("method", "change"),
    [(m, c) for m in NORMALISED for c in (*FACTORS, *WEIGHT) if m != "edora" or c in FACTORS],
)
def test_a_change_shows_in_the_next_output(method, change, mode, shake):
    model, form, x = layer(method, shake)
    with mode():
        model["layer"](x)
    change(form, model["layer"].base)
    with mode():
        torch.testing.assert_close(model["layer"](x), reference(model, form, x))


@every_form
def test_what_inference_mode_kept_serves_a_pass_with_gradients(method, shake):
    model, form, x = layer(method, shake)
    with torch.inference_mode():
        first = model["layer"](x)
    again = model["layer"](x)
    torch.testing.assert_close(again, first.clone())
    again.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in form.parameters())


@every_form
def test_a_model_made_in_inference_mode_computes(method, shake):
    with torch.inference_mode():
        model, form, x = layer(method, shake)
        for _ in range(2):
            torch.testing.assert_close(model["layer"](x), reference(model, form, x))


@every_form
def test_copies_and_moves_start_anew(method, shake):
    model, form, x = layer(method, shake)
    y = model["layer"](x)
    twin = copy.deepcopy(model)
    in_place(twin["layer"].forms["default"], None)
    torch.testing.assert_close(twin["layer"](x), reference(twin, twin["layer"].forms["default"], x))
    assert torch.equal(model["layer"](x), y)
    model.double()
    torch.testing.assert_close(model["layer"](x.double()), reference(model, form, x.double()))
    model.train()["layer"](x.double()).sum().backward()
    assert torch.equal(pickle.loads(pickle.dumps(model.eval()))["layer"](x.double()), model["layer"](x.double()))


@pytest.mark.parametrize("method", ["dora", "bora"])
def test_a_quantised_base_is_followed_too(method, shake):
    torch.manual_seed(0)
    model = nn.ModuleDict({"layer": nn.Linear(64, 8)})
    lowrank.quantise(model)
    adapter = lowrank.attach(model, method, rank=2)
    shake(adapter)
    x = torch.randn(3, 64)
    model.eval()["layer"](x)
    with torch.no_grad():
        model["layer"].base.scales.mul_(2)
    torch.testing.assert_close(model["layer"](x), reference(model, adapter.forms["layer"], x), atol=1e-4, rtol=1e-4)


def test_a_large_weight_is_followed_by_a_sample(shake):
    model, form, x = layer("dora", shake, size=(300, 400))
    assert model["layer"].base.weight.numel() > WHOLE
    model["layer"](x)
    of_the_weight_through_data(form, model["layer"].base)
    torch.testing.assert_close(model["layer"](x), reference(model, form, x), atol=1e-4, rtol=1e-4)
