r"""Every form whose update has no thin factors: dW is written as a matrix, added to W, and multiplied once.

    y = x (W + dW)^T + b    dx = dy (W + dW)    G = dy^T x,  from which what dW is made of gets its gradient

One product of the base's own size costs less time than products with dW's parts where those are together larger
than W. Nothing of W's size outlives the forward pass: the backward pass writes dW again.
"""

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from lorank.lowrank.base import BaseLinear
from lorank.lowrank.forms.form import Form
from lorank.lowrank.linalg import working_dtype
from lorank.lowrank.product import compute_dtype


class Dense(Form):
    """dW as one differentiable matrix; subclasses write it."""

    @abstractmethod
    def matrix(self, weight: Tensor | None) -> Tensor:
        """Return dW [out, in] with its gradients; W is given where ``needs_weight`` is set."""

    def forward(self, x: Tensor, base: BaseLinear) -> Tensor:
        if not self.fits(x, base):
            return super().forward(x, base)
        return dense_linear(x, base.weight, base.bias, self._maker(base), tuple(self.parameters()))

    def fits(self, x: Tensor, base: BaseLinear) -> bool:
        """Return whether W + dW may be one matrix: a plain base, one dtype throughout, no dropout."""
        alike = base.plain and base.weight.dtype == compute_dtype(x) == next(self.parameters()).dtype
        return alike and not (self.training and self.dropout)

    def update(self, x: Tensor, base: BaseLinear, output: Tensor) -> Tensor:
        return dense_linear(self.prepare_input(x), None, None, self._maker(base), tuple(self.parameters()))

    def write_out(self, base: BaseLinear) -> Tensor:
        return self.matrix(base.weight if self.needs_weight else None)

    def _maker(self, base: BaseLinear) -> Callable[[], Tensor]:
        return lambda: self.matrix(base.weight if self.needs_weight else None)

    @torch.no_grad()
    def delta(self, weight: Tensor) -> Tensor:
        delta = self.matrix(weight)
        return delta.to(working_dtype(delta))


def dense_linear(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    make: Callable[[], Tensor],
    parameters: tuple[Tensor, ...],
) -> Tensor:
    """Return x (W + make())^T + b.

    Args:
        x: [..., in].
        weight: W [out, in] of the dtype of x, which gets no gradient; None is 0.
        bias: b [out] or None, which gets no gradient.
        make: writes dW [out, in] out of ``parameters``; it is called again in the backward pass.
        parameters: what gets dW's gradient, any floating dtype.

    >>> scale = torch.tensor(2.0, requires_grad=True)
    >>> y = dense_linear(torch.ones(1, 2), torch.eye(2), None, lambda: scale * torch.eye(2), (scale,))
    >>> y.sum().backward(); y.tolist(), scale.grad.item()
    ([[3.0, 3.0]], 2.0)
    """
    if torch.compiler.is_compiling():  # the compiler decides by itself what is kept and what is written again
        return torch.nn.functional.linear(x, _total(weight, make(), x.dtype), bias)
    return _DenseLinear.apply(x, weight, bias, make, *parameters)


class _DenseLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        make: Callable[[], Tensor],
        *parameters: Tensor,
    ) -> Tensor:
        ctx.make = make
        ctx.save_for_backward(x if any(ctx.needs_input_grad) else None, weight, *parameters)
        return torch.nn.functional.linear(x, _total(weight, make(), x.dtype), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, *parameters = ctx.saved_tensors
        trained = [p for p, need in zip(parameters, ctx.needs_input_grad[4:], strict=True) if need]
        with torch.enable_grad(), torch.autocast(dy.device.type, enabled=False):
            delta = ctx.make()
        dx = dy @ _total(weight, delta.detach(), dy.dtype) if ctx.needs_input_grad[0] else None
        grads: tuple[Tensor | None, ...] = ()
        if trained and delta.requires_grad:
            G = (dy.reshape(-1, dy.shape[-1]).t() @ x.reshape(-1, x.shape[-1])).to(delta.dtype)
            grads = torch.autograd.grad(delta, trained, G, allow_unused=True)
        found = iter(grads or [torch.zeros_like(parameter) for parameter in trained])
        return dx, None, None, None, *(next(found) if need else None for need in ctx.needs_input_grad[4:])


def _total(weight: Tensor | None, delta: Tensor, dtype: torch.dtype) -> Tensor:
    return (delta if weight is None else weight + delta).to(dtype)
