"""The fused product's gradients against finite differences, and what it keeps."""

import itertools

import pytest
import torch

from lorank.lowrank import product as product_module
from lorank.lowrank.product import low_rank_linear

OPTIONS = list(itertools.product([False, True], repeat=4))


@pytest.mark.parametrize(
    ("rows", "wide"),
    [((2, 3), 32), ((1, 2), 32), ((2, 3), 2)],
    ids=["more rows than outputs", "fewer", "wide factors"],
)
@pytest.mark.parametrize(("bias", "dropped", "frozen", "gain"), OPTIONS)
def test_gradients_are_those_of_finite_differences(bias, dropped, frozen, gain, rows, wide, monkeypatch):
    monkeypatch.setattr(product_module, "WIDE", wide)
    generator = torch.Generator().manual_seed(0)

    def draw(*shape, trained=True):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_(trained)

    x, weight = draw(*rows, 5), draw(4, 5, trained=False)
    A, B = draw(2, 5), draw(4, 2)
    b = draw(4, trained=False) if bias else None
    z = draw(*rows, 5) if dropped else None
    anchor = (draw(3, 5, trained=False), draw(4, 3, trained=False)) if frozen else None
    m = (draw(4).detach().abs() + 0.5).requires_grad_() if gain else None
    norm = draw(4, trained=False).abs() + 0.5 if gain else None

    def product(x, A, B, z, m):
        return low_rank_linear(x, weight, b, A, B, 1.7, dropped=z, frozen=anchor, magnitude=m, norm=norm)

    def plain(x, A, B, z, m):
        y = x @ weight.T + 1.7 * ((x if z is None else z) @ A.T) @ B.T
        if anchor is not None:
            y = y - 1.7 * (x @ anchor[0].T) @ anchor[1].T
        y = y if m is None else y * (m / norm)
        return y if b is None else y + b

    torch.testing.assert_close(product(x, A, B, z, m), plain(x, A, B, z, m))
    assert torch.autograd.gradcheck(product, (x, A, B, z, m))


@pytest.mark.parametrize("wide", [32, 2])
@pytest.mark.parametrize("needed", list(itertools.product([False, True], repeat=3)))
def test_only_what_is_asked_for_is_computed(needed, wide, monkeypatch):
    monkeypatch.setattr(product_module, "WIDE", wide)
    tensors = [torch.ones(7, 5), torch.ones(2, 5), torch.ones(4, 2)]
    for tensor, need in zip(tensors, needed, strict=True):
        tensor.requires_grad_(need)
    y = low_rank_linear(tensors[0], torch.ones(4, 5), None, tensors[1], tensors[2], 1.0)
    assert y.requires_grad == any(needed)
    if any(needed):
        y.sum().backward()
    assert [tensor.grad is not None for tensor in tensors] == list(needed)


def test_half_precision_factors_stay_in_float32():
    A, B = torch.ones(2, 5, requires_grad=True), torch.ones(4, 2, requires_grad=True)
    x = torch.ones(3, 5, dtype=torch.bfloat16, requires_grad=True)
    y = low_rank_linear(x, torch.ones(4, 5, dtype=torch.bfloat16), None, A, B, 0.5)
    assert y.dtype is torch.bfloat16
    assert y.unique().tolist() == pytest.approx([10.0])
    y.sum().backward()
    assert (x.grad.dtype, A.grad.dtype, B.grad.dtype) == (torch.bfloat16, torch.float32, torch.float32)


@pytest.mark.parametrize(("trained_A", "kept"), [(True, {(64, 5), (2, 64)}), (False, {(2, 64)})])
def test_the_input_is_kept_only_where_a_is_trained(trained_A, kept):
    x = torch.ones(64, 5, requires_grad=True)
    A, B = torch.ones(2, 5, requires_grad=trained_A), torch.ones(4, 2, requires_grad=True)
    shapes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: shapes.append(tuple(tensor.shape)), lambda _: None):
        low_rank_linear(x, torch.ones(4, 5), None, A, B, 1.0)
    assert {shape for shape in shapes if 64 in shape} == kept
