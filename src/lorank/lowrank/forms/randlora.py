r"""RandLoRA: a full-rank update made of fixed random bases and trained diagonals.

    dW = s sum_{i=1..n} B_i diag(lambda_i) A diag(gamma_i),    n = ceil(k / r),  k = min(in, out),  d = max(in, out)

A [r, k] and B_i [d, r] random and frozen, lambda [n, r] and gamma [n, k] trained; the transpose where in > out.
Zero start: lambda = 0, gamma = 1 / max(n, k). The bases are drawn from the seed, shared by all layers of a
shape, and never saved. Trained values: n (r + k). Rank of dW: min(in, out),
from the second gradient step on: gamma has no gradient while lambda is 0, and equal gammas leave rank r.

The n bases together are no thinner than W, so dW is written as a matrix once a pass. Where in > out, x B, which is
narrower than x, is kept for the backward pass.

Albert et al., RandLoRA: Full-rank parameter-efficient fine-tuning of large models, 2025, arXiv:2502.00987.

*Deviations*: the bases are standard normal. PEFT cuts them out of one pair for all layers, saves them, and
pairs the columns of B with rows of A in another fixed order.
"""

from collections.abc import Callable, Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from lorank.catalogue import catalogued
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.forms.basis import Shared, draw_normal, shared_basis
from lorank.lowrank.forms.dense import Dense
from lorank.lowrank.forms.form import Site, form


@form("randlora")
@catalogued(
    "randlora",
    area="adapters.form",
    title="RandLoRA: Full-rank parameter-efficient fine-tuning of large models",
)
class RandLoRA(Dense):
    """Trained diagonals between random bases.

    >>> from lorank import lowrank
    >>> form = lowrank.attach(nn.Sequential(nn.Linear(5, 8)), "randlora", rank=2).forms["0"]
    >>> form.parameter_count(), form.rank_bound()
    (21, 5)
    """

    lr = 0.0005

    def __init__(self, site: Site, shared: Shared) -> None:
        super().__init__(site)
        k, d = sorted((self.in_features, self.out_features))
        n = -(-k // site.rank) if site.rank else 0
        self.A = shared_basis(shared, site, "randlora A", (site.rank, k), draw_normal)
        self.B = shared_basis(shared, site, "randlora B", (d, n, site.rank), draw_normal)
        self.lambdas = nn.Parameter(torch.zeros(n, site.rank, device=site.device, dtype=site.dtype))
        self.gamma = nn.Parameter(torch.full((n, k), 1 / max(n, k), device=site.device, dtype=site.dtype))

    @classmethod
    def build(cls, sites: Sequence[Site]) -> list[Self]:
        shared: Shared = {}
        return [cls(site, shared) for site in sites]

    def forward(self, x: Tensor, base: BaseLinear) -> Tensor:
        wide = self.in_features > self.out_features and self.lambdas.numel() < self.in_features
        if not wide or torch.compiler.is_compiling() or not self.fits(x, base):
            return super().forward(x, base)
        B, parameters = self.B.value.flatten(1), (self.lambdas, self.gamma)
        return _Narrowed.apply(x, base.weight, base.bias, B, self._scale, *parameters)

    def _scale(self) -> Tensor:
        """s [lambda_i A gamma_i] one under the other, [n r, k]."""
        return (self.scaling * self.lambdas.unsqueeze(2) * self.A.value * self.gamma.unsqueeze(1)).flatten(0, 1)

    def matrix(self, weight: Tensor | None) -> Tensor:
        dense = self.B.value.flatten(1) @ self._scale()
        return dense if self.in_features <= self.out_features else dense.t()

    def parameter_count(self) -> int:
        return self.lambdas.numel() + self.gamma.numel()

    def rank_bound(self) -> int:
        return min(self.in_features, self.out_features) if self.rank else 0


class _Narrowed(torch.autograd.Function):
    """y = x (W + (B S)^T)^T + b where B [in, n r] is narrower than x: x B is kept for dS = (x B)^T dy instead of x."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        B: Tensor,
        make: Callable[[], Tensor],
        *parameters: Tensor,
    ) -> Tensor:
        ctx.make = make
        ctx.save_for_backward(x.reshape(-1, x.shape[-1]) @ B, weight, B, *parameters)
        return nn.functional.linear(x, torch.addmm(weight, make().t(), B.t()), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, dy: Tensor) -> tuple[Tensor | None, ...]:
        narrow, weight, B, *parameters = ctx.saved_tensors
        with torch.enable_grad(), torch.autocast(dy.device.type, enabled=False):
            S = ctx.make()
        dx = dy @ torch.addmm(weight, S.detach().t(), B.t()) if ctx.needs_input_grad[0] else None
        grads = torch.autograd.grad(S, parameters, narrow.t() @ dy.reshape(-1, dy.shape[-1]))
        return dx, None, None, None, None, *grads
