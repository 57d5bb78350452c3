"""LoRA: a 2x3 example worked by hand, its parts, and its limits."""

import numpy as np
import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.errors import UsageError


def layer(weight, bias):
    linear = nn.Linear(3, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor(weight))
        linear.bias.copy_(torch.tensor(bias))
    return nn.ModuleDict({"layer": linear})


def by_hand(**keywords):
    model = layer([[1.0, 0.0, 2.0], [0.0, 1.0, -1.0]], [0.5, -0.5])
    adapter = lowrank.attach(model, "lora", rank=1, alpha=2.0, **keywords)
    adapter.forms["layer"].set_factors(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0], [-1.0]]))
    return model, adapter


@pytest.mark.by_hand("lora")
def test_two_by_three_by_hand():
    model, adapter = by_hand()
    x = torch.tensor([[1.0, 0.0, -1.0]], requires_grad=True)
    # W x + b = (1 - 2 + 0.5, 0 + 1 - 0.5) = (-0.5, 0.5); A x = 1 - 3 = -2; s = 2 / 1; s B A x = (-4, 4)
    y = model["layer"](x)
    assert y.tolist() == pytest.approx(np.array([[-4.5, 4.5]]))
    # s B A = 2 [[1, 2, 3], [-1, -2, -3]]
    assert adapter.forms["layer"].delta(model["layer"].weight).tolist() == pytest.approx(
        np.array([[2.0, 4.0, 6.0], [-2.0, -4.0, -6.0]])
    )
    y.backward(torch.tensor([[1.0, 2.0]]))
    # dA = s B^T dy x^T = 2 (1 - 2) x^T; dB = s dy (A x)^T; dx = W^T dy + A^T (s B^T dy)
    form = adapter.forms["layer"]
    assert form.A.grad.tolist() == pytest.approx(np.array([[-2.0, 0.0, 2.0]]))
    assert form.B.grad.tolist() == pytest.approx(np.array([[-4.0], [-8.0]]))
    assert x.grad.tolist() == pytest.approx(np.array([[1.0 - 2.0, 2.0 - 4.0, 0.0 - 6.0]]))


def test_the_start_is_he_uniform_and_zero():
    model = nn.ModuleDict({"layer": nn.Linear(400, 300)})
    form = lowrank.attach(model, rank=50).forms["layer"]
    assert form.B.abs().max() == 0
    assert form.A.abs().max() <= 400**-0.5
    assert form.A.var().item() == pytest.approx(1 / (3 * 400), rel=0.03)


def test_it_is_a_lora_exactly():
    model, adapter = by_hand()
    A, B, scaling = adapter.forms["layer"].as_lora()
    torch.testing.assert_close(scaling * B @ A, adapter.forms["layer"].delta(model["layer"].weight))


def test_more_components_than_the_rank_are_refused():
    _, adapter = by_hand()
    with pytest.raises(UsageError, match="rank 1"):
        adapter.forms["layer"].set_factors(torch.ones(2, 3), torch.ones(2, 2))


def test_a_tensor_saved_for_backward_is_the_input_itself():
    model, _ = by_hand()
    x = torch.ones(4, 3)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        model["layer"](x)
    big = [tensor for tensor in kept if 4 in tensor.shape]
    assert sorted(tuple(tensor.shape) for tensor in big) == [(1, 4), (4, 3)]
    assert any(tensor.data_ptr() == x.data_ptr() for tensor in big)
