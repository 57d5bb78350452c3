r"""Scaled dot-product attention whose gradient in half precision on a CPU is a few batched matrix products.

    P = softmax(s q k^T + mask)    o = P v    s = 1 / sqrt(head dim)
    dv = P^T do    dS = P * (do v^T - rowsum(do * o))    dq = s dS k    dk = s dS^T q

Shapes: q, o [sequences, heads, queries, dim]; k, v [sequences, heads, tokens, dim]; mask bool [sequences, 1, 1,
tokens], True at tokens. The forward pass is PyTorch's, and nothing of the size of P is kept. Its gradient in
bfloat16 took four times as long as these products (42% of a training step of MiniLM on a CPU with avx512_bf16), so
P is computed again here, for as many sequences at a time as keep it in the cache. In float32, on other devices and
with dropout PyTorch's gradient is used.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CACHED = 2**20
"""The most elements of P that are held at a time, where a single sequence has no more."""
HALF = (torch.bfloat16, torch.float16)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float = 0.0) -> Tensor:
    """Return scaled dot-product attention [sequences, heads, queries, dim].

    Args:
        q: The queries [sequences, heads, queries, dim].
        k: The keys [sequences, heads, tokens, dim].
        v: The values [sequences, heads, tokens, dim].
        mask: The bool [sequences, 1, 1, tokens], True at tokens; None where all places hold tokens.
        dropout: The share of P that is dropped, from 0 to 1.

    >>> q = torch.zeros(1, 1, 1, 2)
    >>> attend(q, torch.zeros(1, 1, 2, 2), torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), None)
    tensor([[[[2., 3.]]]])
    """
    own = q.dtype in HALF and q.device.type == "cpu" and dropout == 0.0 and torch.is_grad_enabled()
    if own and any(part.requires_grad for part in (q, k, v)):
        attended: Tensor = _Attention.apply(q, k, v, mask)  # type: ignore[no-untyped-call]
        return attended
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, mask, output = ctx.saved_tensors
        dq, dk, dv = (torch.empty_like(part) for part in (q, k, v))
        bias = None if mask is None else torch.zeros(mask.shape, dtype=q.dtype).masked_fill_(~mask, float("-inf"))
        count, heads, rows, _ = q.shape
        size = max(1, CACHED // max(1, heads * rows * k.shape[2]))
        for first in range(0, count, size):
            part = slice(first, first + size)
            own = None if bias is None else bias[part]
            grads = _gradients(q[part], k[part], v[part], own, output[part], grad[part])
            for whole, piece in zip((dq, dk, dv), grads, strict=True):
                whole[part] = piece.view_as(whole[part])
        return dq, dk, dv, None


def _gradients(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, output: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return dq, dk, dv [sequences * heads, places, dim] of some sequences; ``bias`` is -inf where no token is."""
    scale = q.shape[-1] ** -0.5
    delta = (grad * output).sum(-1, keepdim=True).flatten(0, 1)
    heads = q.shape[1]
    q, k, v, grad = ((q * scale).flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), grad.flatten(0, 1))
    scores = q @ k.mT
    if bias is not None:
        scores.unflatten(0, (-1, heads)).add_(bias)
    weights = torch.softmax(scores, -1)
    inner = (grad @ v.mT).sub_(delta).mul_(weights)
    return (inner @ k).mul_(scale), inner.mT @ q, weights.mT @ grad
