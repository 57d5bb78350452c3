r"""The fused product y = g * (x W^T + s (z A^T) B^T - s (x A0^T) B0^T) + b of every LoRA-like form.

Shapes: x, z [..., in]; W [out, in] frozen; A [r, in] and B [out, r] trained; A0 [r0, in] and B0 [out, r0] the
frozen factors that a start took out of W; g = m / n [out] with a trained magnitude m and a constant norm n, or
absent; s the scaling. z is x, or x after dropout.

The update is added in place into the base's output. Kept for the backward pass are x, which layers that read
the same activation share, only where A is trained; z A^T [..., r], only where B is; and the output itself where m is
trained (gradient of m: sum dy (y - b) / m), never an intermediate of the output's size. The backward pass is

    h = z A^T    dh = s (dy * g) B    dx = (dy * g) W + dh A    dA = dh^T z    dB = s (dy * g)^T h

where g is folded into W and B rather than into dy. Row rates c [out] multiply the gradient of every row of B A on
its way into the factors, dA = (s (dy * g * c) B)^T z and dB = c * dB, and leave dx alone. In float32 and better, and
with at least as many rows as outputs, dx is one product, dy (g * (W + s B A)): forming that weight costs less than a
pass over dx, and in half precision it would round the update away. So is y where factors are ``WIDE``, without dropout
and with at least as many rows as inputs; for thinner ones a copy of W would gain next to nothing. Products with r are
taken as [r, rows], the layout in which they are fastest.
"""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

WIDE = 32
"""The r from which factors are wide: y is then one product with W + s B A."""


def compute_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype in which a product with ``x`` runs: autocast's where it is on, else that of ``x``."""
    kind = x.device.type
    if x.dtype is not torch.float64 and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return x.dtype


def low_rank_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    A: Tensor,
    B: Tensor,
    scaling: float,
    *,
    dropped: Tensor | None = None,
    frozen: tuple[Tensor, Tensor] | None = None,
    magnitude: Tensor | None = None,
    norm: Tensor | None = None,
    row_rates: Tensor | None = None,
) -> Tensor:
    """Return y [..., out] of the equation above.

    Args:
        x: [..., in]; under autocast it is cast as ``torch.nn.functional.linear`` would cast it.
        weight: W [out, in], which gets no gradient.
        bias: b [out] or None, which gets no gradient.
        A: [r, in], any floating dtype; cast to that of the product.
        B: [out, r].
        scaling: s.
        dropped: z [..., in] where dropout is active.
        frozen: (A0 [r0, in], B0 [out, r0]) to take away from W.
        magnitude: m [out].
        norm: n [out], a constant; must come with ``magnitude``.
        row_rates: c [out], a constant.

    >>> x, W, A, B = torch.ones(1, 2), torch.eye(2), torch.ones(1, 2), torch.ones(2, 1)
    >>> low_rank_linear(x, W, None, A, B, 0.5)
    tensor([[2., 2.]])
    """
    A0, B0 = frozen or (None, None)
    return _LowRankLinear.apply(x, dropped, weight, bias, A, B, A0, B0, magnitude, norm, row_rates, scaling)


class _LowRankLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: Tensor,
        dropped: Tensor | None,
        weight: Tensor,
        bias: Tensor | None,
        A: Tensor,
        B: Tensor,
        A0: Tensor | None,
        B0: Tensor | None,
        magnitude: Tensor | None,
        norm: Tensor | None,
        row_rates: Tensor | None,
        scaling: float,
    ) -> Tensor:
        dtype = compute_dtype(x)
        rows = _rows(x, dtype)
        inner = rows if dropped is None else _rows(dropped, dtype)
        need = ctx.needs_input_grad
        gain = None if magnitude is None else (magnitude / norm).unsqueeze(1)
        fold = dropped is None and A.shape[0] >= WIDE and _folds(rows)
        h = A.to(dtype) @ inner.t() if need[5] or not fold else None
        b = None if bias is None else bias.to(dtype)
        if fold:
            y = _affine(rows, _effective_weight(weight, gain, _pairs(A, B, A0, B0, scaling), dtype), b)
        else:
            y = _affine(rows, weight.to(dtype), b if gain is None else None)
            y.addmm_(h.t(), _transpose(B, dtype), alpha=scaling)
            if A0 is not None and B0 is not None:
                y.addmm_((A0.to(dtype) @ rows.t()).t(), _transpose(B0, dtype), alpha=-scaling)
            if gain is not None:
                y.mul_(gain.squeeze(1).to(dtype))
                if b is not None:
                    y.add_(b)
        y = y.view(*x.shape[:-1], weight.shape[0])
        ctx.save_for_backward(
            (x if dropped is None else dropped) if need[4] else None,
            h if need[5] else None,
            weight,
            bias,
            A,
            B,
            A0,
            B0,
            magnitude,
            norm,
            row_rates,
            y if need[8] else None,
        )
        ctx.scaling, ctx.dtype, ctx.shape, ctx.separate = scaling, dtype, x.shape, dropped is not None
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, dy: Tensor) -> tuple[Tensor | None, ...]:
        z, h, weight, bias, A, B, A0, B0, magnitude, norm, rates, y = ctx.saved_tensors
        need = ctx.needs_input_grad
        need_x, need_z, need_A, need_B, need_m = need[0], need[1], need[4], need[5], need[8]
        dtype, scaling = ctx.dtype, ctx.scaling
        dx = dz = dA = dB = dm = None
        if need_m:
            dm = _magnitude_gradient(dy, y, bias, magnitude)
        dy = _rows(dy, dtype).contiguous()
        gain = None if magnitude is None else (magnitude / norm).unsqueeze(1)
        fold = _folds(dy)
        pairs = _pairs(None if ctx.separate else A, B, A0, B0, scaling)
        if need_x:
            dx = dy @ _effective_weight(weight, gain, pairs if fold else [], dtype)
        dh = None
        if (need_A and rates is None) or need_z or (need_x and not fold and not ctx.separate):
            dh = _transpose(_scale(B, gain, scaling), dtype) @ dy.t()
        if need_x and not fold:
            for A_, B_, scaling_ in pairs:
                inner = dh if A_ is A else _transpose(_scale(B_, gain, scaling_), dtype) @ dy.t()
                dx.addmm_(inner.t(), A_.to(dtype))
        if need_z:
            dz = (dh.t() @ A.to(dtype)).view(ctx.shape)
        if rates is not None:
            gain = rates.unsqueeze(1) if gain is None else gain * rates.unsqueeze(1)
            dh = _transpose(_scale(B, gain, scaling), dtype) @ dy.t() if need_A else None
        if need_A:
            dA = (dh @ _rows(z, dtype)).to(A.dtype)
        if need_B:
            dB = _scale((h @ dy).t().to(B.dtype), gain, scaling).contiguous()
        if dx is not None:
            dx = dx.view(ctx.shape)
        return dx, dz, None, None, dA, dB, None, None, dm, None, None, None


def _rows(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x.reshape(-1, x.shape[-1]).to(dtype)


def _affine(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return rows @ weight.t() if bias is None else torch.addmm(bias, rows, weight.t())


def _folds(rows: Tensor) -> bool:
    """Return whether updates are added to the weight that ``rows`` are multiplied with, not to the product."""
    return rows.dtype in (torch.float32, torch.float64) and rows.shape[0] >= rows.shape[1]


def _pairs(
    A: Tensor | None, B: Tensor, A0: Tensor | None, B0: Tensor | None, scaling: float
) -> list[tuple[Tensor, Tensor, float]]:
    """Return the factors that act on x with their scales."""
    pairs = [] if A is None else [(A, B, scaling)]
    return pairs if A0 is None or B0 is None else [*pairs, (A0, B0, -scaling)]


def _transpose(B: Tensor, dtype: torch.dtype) -> Tensor:
    """Return B^T [r, out] in one piece."""
    return B.t().to(dtype).contiguous()


def _scale(B: Tensor, gain: Tensor | None, scaling: float) -> Tensor:
    """Return s (g * B) [out, r]."""
    return scaling * (B if gain is None else gain * B)


def _effective_weight(
    weight: Tensor, gain: Tensor | None, pairs: list[tuple[Tensor, Tensor, float]], dtype: torch.dtype
) -> Tensor:
    """Return g * (W + sum of s B A over ``pairs``) [out, in]."""
    W = weight.to(dtype)
    for index, (A, B, scaling) in enumerate(pairs):
        W = torch.addmm(W, B, A, alpha=scaling) if index == 0 else W.addmm_(B, A, alpha=scaling)
    return W if gain is None else (gain * W).to(dtype)


def _magnitude_gradient(dy: Tensor, y: Tensor, bias: Tensor | None, magnitude: Tensor) -> Tensor:
    """Return sum over rows of dy (y - b) / m [out]; 0 where m is exactly 0, whose direction y does not hold."""
    dy, y = dy.reshape(-1, dy.shape[-1]), y.reshape(-1, y.shape[-1])
    total = torch.sum(dy * y, 0, dtype=magnitude.dtype)
    if bias is not None:
        total -= bias.to(magnitude.dtype) * torch.sum(dy, 0, dtype=magnitude.dtype)
    return torch.where(magnitude == 0, 0.0, total / magnitude)
