"""NOLA: a 2x3 example worked by hand, a count without the rank, and bases from the seed."""

import numpy as np
import pytest
import torch
from torch import nn

from lorank import lowrank


@pytest.mark.by_hand("nola")
def test_two_by_three_by_hand(one_layer, set_tensors):
    model, form = one_layer([[0.0] * 3, [0.0] * 3], "nola", rank=1, options={"bases": 2})
    set_tensors(form, A__value=[[[1.0, 0.0, 0.0]], [[0.0, 1.0, 1.0]]], B__value=[[[1.0], [0.0]], [[0.0], [2.0]]])
    set_tensors(form, alphas=[2.0, 3.0], betas=[1.0, -1.0])
    # A = 2 (1, 0, 0) + 3 (0, 1, 1) = (2, 3, 3); B = (1, 0) - (0, 2) = (1, -2)
    assert form.delta(model["layer"].weight).tolist() == pytest.approx(np.array([[2.0, 3.0, 3.0], [-4.0, -6.0, -6.0]]))
    model["layer"](torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)).sum().backward()
    # d y / d alpha_i = sum(B) (A_i x); d y / d beta_j = sum(B_j) (A x)
    assert form.alphas.grad.tolist() == pytest.approx([-1.0, 0.0])
    assert form.betas.grad.tolist() == pytest.approx([2.0, 4.0])


def test_nola_counts_its_bases_alone_and_goes_below_rank_one(shake):
    for sides, rank in [((60, 40), 4), ((60, 40), 9), ((200, 300), 4)]:
        model = nn.ModuleDict({"layer": nn.Linear(*sides, dtype=torch.float64)})
        adapter = lowrank.attach(model, "nola", rank=rank, options={"bases": 16})
        assert adapter.num_parameters() == 32 < sum(sides)  # a LoRA of rank 1 trains in + out
        shake(adapter)
        form = adapter.forms["layer"]
        assert torch.linalg.matrix_rank(form.delta(model["layer"].weight)) == rank


def test_bases_come_back_bit_equal_from_the_seed():
    def make():
        model = nn.ModuleDict({"one": nn.Linear(5, 4), "two": nn.Linear(5, 4)})
        return lowrank.attach(model, "nola", rank=2, seed=5)

    first, second = make(), make()
    assert first.forms["one"].A is first.forms["two"].A
    assert torch.equal(first.forms["one"].A.value, second.forms["one"].A.value)
    assert torch.equal(first.forms["one"].B.value, second.forms["one"].B.value)
    assert sorted(first.state()) == ["one.alphas", "one.betas", "two.alphas", "two.betas"]
