"""LoRS: a 2x3 example worked by hand, the base's zeros, gradients of the dense reference, and what is kept."""

import numpy as np
import pytest
import torch
from torch import nn

from lorank import lowrank


def sparse(shake):
    generator = torch.Generator().manual_seed(0)
    linear = nn.Linear(12, 9, dtype=torch.float64)
    with torch.no_grad():
        linear.weight *= torch.rand(9, 12, generator=generator) < 0.4
    model = nn.ModuleDict({"layer": linear})
    adapter = lowrank.attach(model, "lors", rank=2, alpha=3.0)
    shake(adapter)
    return model, adapter, torch.randn(5, 12, generator=generator, dtype=torch.float64)


@pytest.mark.by_hand("lors")
def test_two_by_three_by_hand(one_layer, set_tensors):
    model, form = one_layer([[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]], "lors", rank=1)
    set_tensors(form, A=[1.0, 2.0, 3.0], B=[1.0, 10.0])
    assert form.delta(model["layer"].weight).tolist() == pytest.approx(np.array([[1.0, 0.0, 3.0], [0.0, 20.0, 0.0]]))
    model["layer"](torch.ones(1, 3).double()).sum().backward()
    # G = M: dA = B^T M, dB = M A^T
    assert form.A.grad.tolist() == pytest.approx(np.array([[1.0, 10.0, 1.0]]))
    assert form.B.grad.tolist() == pytest.approx(np.array([[4.0], [2.0]]))


def test_lors_keeps_the_zeros_of_the_base(shake):
    model, adapter, _ = sparse(shake)
    zeros = model["layer"].base.weight == 0
    adapter.merge()
    assert torch.equal(model["layer"].base.weight == 0, zeros)
    assert 0 < zeros.sum() < zeros.numel()
    form = adapter.forms["layer"]
    adapter.unmerge()
    assert torch.linalg.matrix_rank(form.delta(model["layer"].base.weight)) == form.rank_bound() == 9


def test_gradients_are_those_of_the_dense_masked_product(shake):
    model, adapter, x = sparse(shake)
    form, base = adapter.forms["layer"], model["layer"].base
    x.requires_grad_()
    inputs = [x, form.A, form.B]
    ours = torch.autograd.grad(model["layer"](x).square().sum(), inputs)
    dense = (base.weight + form.scaling * form.B @ form.A) * (base.weight != 0)
    reference = torch.autograd.grad(nn.functional.linear(x, dense, base.bias).square().sum(), inputs)
    for one, other in zip(ours, reference, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6)


def test_less_is_kept_for_the_backward_pass_than_by_a_masked_product():
    model = nn.ModuleDict({"layer": nn.Linear(48, 64)})
    form = lowrank.attach(model, "lors", rank=2).forms["layer"]
    W, x = model["layer"].weight, torch.ones(3, 48, requires_grad=True)

    def kept(product):
        pointers = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t: pointers.setdefault(t.untyped_storage().data_ptr(), t) if t.numel() else t, lambda t: t
        ):
            product()
        return sum(t.numel() for t in pointers.values() if t.untyped_storage().data_ptr() != W.data_ptr())

    ours = kept(lambda: model["layer"](x))
    masked = kept(lambda: x @ ((W + form.B @ form.A) * (W != 0)).T)
    assert ours < 64 * 48 < masked


def test_the_start_takes_the_directions_of_the_masked_gradient(shake):
    model, _, x = sparse(shake)
    base = model["layer"].base
    gradient = torch.randn(9, 12, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    plain = nn.ModuleDict({"layer": nn.Linear(12, 9, dtype=torch.float64)})
    with torch.no_grad():
        plain["layer"].weight.copy_(base.weight)
    before = plain["layer"](x)
    statistics = {"layer": {"gradient": gradient}}
    form = lowrank.attach(plain, "lors", rank=2, start="lors", statistics=statistics).forms["layer"]
    assert torch.equal(plain["layer"](x), before)
    masked = gradient * (base.weight != 0)
    # B = -G A^T is the first step down the gradient: what it makes of A is the best two ranks of the masked gradient
    U, sigma, Vh = torch.linalg.svd(masked)
    best = (U[:, :2] * sigma[:2]) @ Vh[:2]
    torch.testing.assert_close(3 * masked @ form.A.t() @ form.A, best)
    torch.testing.assert_close(form.A.norm(dim=1), torch.full((2,), 3**-0.5, dtype=torch.float64))
