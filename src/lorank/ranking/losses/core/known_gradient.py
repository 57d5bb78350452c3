"""Values whose gradient was computed along with them, as most of the losses here do it.

One pass over a list's documents or pairs gives both, so that nothing but [batch, list] waits for the backward pass.
"""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable


def with_gradient(scores: Tensor, values: Tensor, gradient: Tensor) -> Tensor:
    """Return ``values`` [batch] as a function of ``scores``, differentiable once.

    Args:
        scores: [batch, list].
        values: [batch], computed from the scores without a graph.
        gradient: Each value's derivative by its own list's scores, [batch, list].

    >>> scores = torch.tensor([[3.0, 4.0]], requires_grad=True)
    >>> with_gradient(scores, torch.tensor([25.0]), torch.tensor([[6.0, 8.0]])).sum().backward()
    >>> scores.grad
    tensor([[6., 8.]])
    """
    given: Tensor = _Known.apply(scores, values, gradient)  # type: ignore[no-untyped-call]
    return given


class _Known(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, scores: Tensor, values: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return values.clone()  # a tensor given and returned would be taken for a view of itself

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, upstream: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return gradient * upstream.unsqueeze(1), None, None
