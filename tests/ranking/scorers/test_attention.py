"""Attention in half precision: the gradient is that of float32 up to the format's rounding."""

import pytest
import torch
from torch import Tensor

from lorank.ranking.scorers import attention
from lorank.ranking.scorers.attention import attend


def gradients(
    parts: tuple[Tensor, ...], mask: Tensor | None, grad: Tensor, dtype: torch.dtype
) -> tuple[Tensor, list[Tensor]]:
    own = [part.detach().to(dtype).requires_grad_() for part in parts]
    output = attend(*own, mask)
    output.backward(grad.to(dtype))
    return output.detach().float(), [part.grad.float() for part in own if part.grad is not None]


@pytest.mark.parametrize("rows", [1, 9])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("cached", [1, 2**20], ids=["one-by-one", "together"])
def test_half_precision_gives_the_gradient_of_float32(
    rows: int, masked: bool, dtype: torch.dtype, cached: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "CACHED", cached)
    generator = torch.Generator().manual_seed(0)
    shapes = [(5, 3, rows, 8), (5, 3, 9, 8), (5, 3, 9, 8)]
    parts = tuple(torch.randn(shape, generator=generator) for shape in shapes)
    grad = torch.randn(shapes[0], generator=generator)
    lengths = torch.tensor([9, 1, 4, 7, 9])
    mask = (torch.arange(9) < lengths[:, None])[:, None, None, :] if masked else None
    expected, exact = gradients(parts, mask, grad, torch.float32)
    output, found = gradients(parts, mask, grad, dtype)
    assert (output - expected).norm() < 0.03 * expected.norm()
    assert len(found) == len(exact) == 3
    for own, reference in zip(found, exact, strict=True):
        assert (own - reference).norm() < 0.05 * reference.norm()


def test_masked_places_get_no_gradient() -> None:
    generator = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(2, 2, 4, 8, generator=generator).bfloat16().requires_grad_() for _ in range(3))
    mask = torch.tensor([[True, True, False, False], [True, True, True, True]])[:, None, None, :]
    attend(q, k, v, mask).float().square().sum().backward()
    assert k.grad is not None
    assert v.grad is not None
    assert not k.grad[0, :, 2:].any()
    assert not v.grad[0, :, 2:].any()
    assert k.grad[1].any()


def test_dropout_is_that_of_pytorch() -> None:
    q = torch.ones(1, 1, 3, 2, dtype=torch.bfloat16, requires_grad=True)
    torch.manual_seed(0)
    own = attend(q, q, q, None, 0.5)
    torch.manual_seed(0)
    peer = torch.nn.functional.scaled_dot_product_attention(q, q, q, dropout_p=0.5)
    assert torch.equal(own, peer)
