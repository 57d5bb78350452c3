"""LoRA-FA: a 2x3 example worked by hand, what the backward pass keeps, and PEFT on the folder."""

import numpy as np
import peft
import pytest
import torch
from torch import nn

from lorank import lowrank


@pytest.mark.by_hand("lora-fa")
def test_two_by_three_by_hand(one_layer):
    model, form = one_layer([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], "lora-fa", rank=1, alpha=2.0)
    form.set_factors(torch.tensor([[1.0, 0.0, -1.0]]), torch.tensor([[1.0], [3.0]]))
    x = torch.tensor([[2.0, 0.0, 1.0]], dtype=torch.float64)
    y = model["layer"](x)
    assert y.tolist() == [[2 + 2, 6]]  # W x + 2 B (A x), A x = 1
    y.sum().backward()
    assert form.B.grad.tolist() == pytest.approx(np.array([[2.0], [2.0]]))  # s dy (A x)
    assert not form.A.requires_grad


def test_the_backward_pass_keeps_no_input():
    model = nn.ModuleDict({"layer": nn.Linear(16, 16)})
    lowrank.attach(model, "lora-fa", rank=2)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(tuple(t.shape)) or t, lambda t: t):
        model["layer"](torch.ones(5, 16))
    assert not [shape for shape in kept if set(shape) == {5, 16}]


def test_peft_reads_the_folder_as_a_lora(tower, shake, tmp_path):
    model, x = tower(), torch.ones(2, 6)
    adapter = lowrank.attach(model, "lora-fa", rank=2, targets=["wide"])
    shake(adapter)
    adapter.save(tmp_path / "a")
    peer = peft.PeftModel.from_pretrained(tower(), tmp_path / "a")
    torch.testing.assert_close(peer(x), model(x), atol=1e-6, rtol=1e-6)
