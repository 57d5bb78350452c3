"""DoRA: a 2x3 example worked by hand, the norm from the factors, and its limits."""

import math

import pytest
import torch
from torch import nn

from lorank import lowrank


def by_hand():
    linear = nn.Linear(3, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 2.0]]))
        linear.bias.copy_(torch.tensor([1.0, -1.0]))
    model = nn.ModuleDict({"layer": linear})
    adapter = lowrank.attach(model, "dora", rank=1, alpha=1.0)
    form = adapter.forms["layer"]
    form.set_factors(torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[12.0], [2.0]]))
    return model, form


@pytest.mark.by_hand("dora")
def test_two_by_three_by_hand():
    model, form = by_hand()
    assert form.magnitude.tolist() == pytest.approx([5.0, 2.0])  # row norms of W
    # V = W + B A = [[3, 4, 12], [0, 0, 4]]; its norms are 13 and 4; m / norm = 5/13 and 1/2
    torch.testing.assert_close(form.norm(model["layer"].base.weight), torch.tensor([13.0, 4.0]))
    x = torch.tensor([[1.0, 1.0, 1.0]])
    y = model["layer"](x)
    torch.testing.assert_close(y, torch.tensor([[5 / 13 * 19 + 1, 0.5 * 4 - 1]]))
    delta = form.delta(model["layer"].base.weight)
    torch.testing.assert_close(delta[1], torch.tensor([0.0, 0.0, 0.0]))
    torch.testing.assert_close(delta[0], 5 / 13 * torch.tensor([3.0, 4.0, 12.0]) - torch.tensor([3.0, 4.0, 0.0]))
    y.sum().backward()
    # d y_o / d m_o = V_o x / norm_o, d y_o / d B_o = (m_o / norm_o) A x with the norm a constant
    torch.testing.assert_close(form.magnitude.grad, torch.tensor([19 / 13, 1.0]))
    torch.testing.assert_close(form.B.grad, torch.tensor([[5 / 13], [0.5]]))
    # d y / d A = sum_o (m_o / norm_o) B_o x
    torch.testing.assert_close(form.A.grad, torch.full((1, 3), 5 / 13 * 12 + 0.5 * 2))


def test_rows_of_the_update_keep_the_magnitude(tower, shake):
    model = tower(torch.float64)
    adapter = lowrank.attach(model, "dora", rank=2, targets=["wide"])
    form = adapter.forms["wide"]
    with torch.no_grad():
        form.B += 0.3
    weight = model.wide.base.weight
    torch.testing.assert_close((weight + form.delta(weight)).norm(dim=1), form.magnitude.detach())
    torch.testing.assert_close(form.norm(weight), (weight + form.scaling * form.B @ form.A).norm(dim=1).detach())


def test_with_the_magnitude_at_the_norm_it_is_lora(tower, shake):
    model, other = tower(torch.float64), tower(torch.float64)
    dora = lowrank.attach(model, "dora", rank=2, targets=["wide"]).forms["wide"]
    lora = lowrank.attach(other, "lora", rank=2, targets=["wide"]).forms["wide"]
    with torch.no_grad():
        dora.B += 0.3
        lora.B += 0.3
        dora.magnitude.copy_(dora.norm(model.wide.base.weight))
    x = torch.ones(2, 6, dtype=torch.float64)
    torch.testing.assert_close(model(x), other(x))


def test_a_dead_row_stays_dead_and_finite():
    linear = nn.Linear(3, 2)
    nn.init.zeros_(linear.weight)
    model = nn.ModuleDict({"layer": linear})
    form = lowrank.attach(model, "dora", rank=1).forms["layer"]
    with torch.no_grad():
        form.B += 1
    y = model["layer"](torch.ones(1, 3))
    torch.testing.assert_close(y, linear.bias.unsqueeze(0))
    y.sum().backward()
    assert form.magnitude.grad.tolist() == [0.0, 0.0]
    assert math.isfinite(form.A.grad.sum())


def test_no_dense_weight_in_the_forward_pass():
    model = nn.ModuleDict({"layer": nn.Linear(64, 48)})
    lowrank.attach(model, "dora", rank=2)
    shapes = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and "view" not in str(func) and "alias" not in str(func):
                shapes.append((str(func), tuple(out.shape)))
            return out

    x = torch.ones(5, 64)
    with Watch():
        model["layer"](x)
    dense = [name for name, shape in shapes if shape in ((48, 64), (64, 48))]
    assert all(name.startswith(("aten.t.", "aten.detach", "aten.transpose")) for name in dense), dense
