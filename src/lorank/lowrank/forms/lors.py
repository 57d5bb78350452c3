r"""LoRS: a LoRA that keeps the zeros of a sparse weight.

    W + dW = W + s (B A) * M,    M = [W != 0]

The mask is read off W wherever it is needed, and neither it nor B A is kept: with G = dy^T x * M,

    dx = dy (W + s (B A) * M)    dA = s B^T G    dB = s G A^T

Zero start: A as LoRA's, B = 0. Trained values: r (in + out). Rank of dW: min(r, in, out) where W has no zero;
a mask can raise it to min(in, out).

Hu et al., LoRS: Efficient Low-Rank Adaptation for Sparse Large Language Model, 2025, arXiv:2501.08582.

*Deviations*: none in the update; the paper's start from gradients is a start of its own, here the zero start.
"""

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from lorank.catalogue import catalogued
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.forms.basis import uniform
from lorank.lowrank.forms.form import Form, Site, form


@form("lors")
@catalogued(
    "lors",
    area="adapters.form",
    title="LoRS: Efficient Low-Rank Adaptation for Sparse Large Language Model",
)
class LoRS(Form):
    """A masked LoRA.

    >>> from lorank import lowrank
    >>> lowrank.attach(nn.Sequential(nn.Linear(3, 2)), "lors", rank=1).num_parameters()
    5
    """

    needs_weight = True

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        A = uniform((site.rank, self.in_features), site.generator("A"))
        self.A = nn.Parameter(A.to(site.device, site.dtype))
        self.B = nn.Parameter(torch.zeros(self.out_features, site.rank, device=site.device, dtype=site.dtype))
        self.dense = bool((site.base.weight != 0).all())

    def update(self, x: Tensor, base: BaseLinear, output: Tensor) -> Tensor:
        z = self.entering(x)
        y = _MaskedProduct.apply(z.reshape(-1, self.in_features), base.weight, self.A, self.B, self.scaling)
        return y.reshape(*x.shape[:-1], self.out_features)

    @torch.no_grad()
    def delta(self, weight: Tensor) -> Tensor:
        return self.scaling * (self.B @ self.A) * (weight != 0)

    def parameter_count(self) -> int:
        return self.rank * (self.in_features + self.out_features)

    def rank_bound(self) -> int:
        most = min(self.in_features, self.out_features)
        return min(self.rank, most) if self.dense or not self.rank else most


class _MaskedProduct(torch.autograd.Function):
    """s x ((B A) * [W != 0])^T for x [rows, in], with nothing of W's size kept for the backward pass."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, A: Tensor, B: Tensor, scaling: float) -> Tensor:
        ctx.save_for_backward(x, weight, A, B)
        ctx.scaling = scaling
        return x @ _masked(A, B, weight, scaling).t().to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, A, B = ctx.saved_tensors
        dx = dA = dB = None
        if ctx.needs_input_grad[0]:
            dx = dy @ _masked(A, B, weight, ctx.scaling).to(dy.dtype)
        if ctx.needs_input_grad[2] or ctx.needs_input_grad[3]:
            G = (dy.t() @ x).to(A.dtype).mul_(weight != 0)
            dA, dB = ctx.scaling * (B.t() @ G), ctx.scaling * (G @ A.t())
        return dx, None, dA, dB, None


def _masked(A: Tensor, B: Tensor, weight: Tensor, scaling: float) -> Tensor:
    return (scaling * (B @ A)).mul_(weight != 0)
