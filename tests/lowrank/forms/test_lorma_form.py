"""LoRMA: 2x3 examples worked by hand for both kinds, identity at the start, and no square matrix in forward."""

import numpy as np
import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.errors import UsageError
from lorank.lowrank.forms.lorma import inflate


@pytest.mark.by_hand("lorma")
def test_two_by_three_by_hand(one_layer, set_tensors):
    model, form = one_layer([[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]], "lorma", rank=1)
    set_tensors(form, A=[1.0, 2.0], B=[1.0, -1.0])
    # A W = (1, 2, 2); dW = B A W
    assert form.delta(model["layer"].base.weight).tolist() == pytest.approx(
        np.array([[1.0, 2.0, 2.0], [-1.0, -2.0, -2.0]])
    )
    y = model["layer"](torch.eye(3).double())
    assert y.T.tolist() == pytest.approx(np.array([[2.0, 2.0, 4.0], [-1.0, -1.0, -2.0]]))


def test_the_inflated_kind_by_hand(one_layer, set_tensors):
    W = [[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]]
    model, form = one_layer(W, "lorma", rank=1, options={"kind": "permutation"})
    set_tensors(form, A=[1.0, 2.0], B=[1.0, 1.0], A0=[0.0, 0.0], B0=[0.0, 0.0])
    # B A = [[1, 2], [1, 2]], its second row shifted: [[1, 2], [2, 1]]
    expected = torch.tensor([[1.0, 2.0, 2.0], [2.0, 1.0, 4.0]], dtype=torch.float64)
    torch.testing.assert_close(form.delta(model["layer"].base.weight), expected)
    torch.testing.assert_close(model["layer"](torch.eye(3).double()).T, expected + torch.tensor(W).double())


@pytest.mark.parametrize("kind", ["plus", "permutation"])
def test_lorma_starts_as_the_identity_and_merges_exactly(kind, tower, shake):
    model, x = tower(torch.float64), torch.randn(3, 6, generator=torch.Generator().manual_seed(0)).double()
    before = model(x)
    adapter = lowrank.attach(model, "lorma", rank=2, targets=["wide", "narrow"], options={"kind": kind})
    form = adapter.forms["wide"]
    assert form.factor().abs().max() == 0
    torch.testing.assert_close(model(x), before)
    shake(adapter)
    assert torch.linalg.matrix_rank(form.factor()) == (10 if kind == "permutation" else 2)
    assert torch.linalg.matrix_rank(form.delta(model.wide.base.weight)) == form.rank_bound()
    after = model(x)
    assert (after - before).abs().max() > 1e-3
    gradients = torch.autograd.grad(after.sum(), list(adapter.parameters()))
    assert all(gradient.abs().sum() > 0 for gradient in gradients)
    adapter.merge()
    torch.testing.assert_close(model(x), after)


@pytest.mark.parametrize("kind", ["plus", "permutation"])
def test_no_square_matrix_in_the_forward_pass(kind):
    model = nn.ModuleDict({"layer": nn.Linear(24, 64)})
    lowrank.attach(model, "lorma", rank=2, options={"kind": kind})
    sizes = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            sizes.append(out.numel() if isinstance(out, torch.Tensor) else 0)
            return out

    with Watch():
        model["layer"](torch.ones(2, 24))
    assert max(sizes) < 64 * 64


def test_rows_are_shifted_by_their_number():
    assert inflate(torch.arange(9).view(3, 3)).tolist() == [[0, 1, 2], [5, 3, 4], [7, 8, 6]]
    assert torch.linalg.matrix_rank(inflate(torch.ones(5, 1) @ torch.randn(1, 5))) == 5


def test_an_unknown_kind_is_refused(tower):
    with pytest.raises(UsageError, match="plus"):
        lowrank.attach(tower(), "lorma", options={"kind": "pi"})
