r"""SLTrain: a low-rank matrix and a sparse one whose places never change.

    W = (alpha / r) B A + V,    A [r, in], B [out, r], V of delta out in values on a fixed random support

The support is drawn once, evenly over the entries, and is sorted flat places (int64). B A alone cannot learn a weight
of high rank; a few entries anywhere raise the rank to the full one with probability near 1. The backward pass builds
W again in place of keeping it, so that nothing of W's size lives between forward and backward pass.

Han et al., SLTrain: a sparse plus low-rank approach for parameter and memory efficient pretraining, 2024,
arXiv:2406.02214.

*Deviations*: from "svd", for a pretrained weight, B A is its truncated SVD and V the residual on the support, so the
start is not exact. ``alpha`` None is r, a scale of 1 (published: 32 at r = 128 up to 8 at r = 512).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.factored.core.layer import FactoredLayer, balanced_svd, factored


@factored("sltrain")
@catalogued(
    "sltrain",
    area="pretrain.lowrank",
    title="SLTrain: a sparse plus low-rank approach for parameter and memory efficient pretraining",
)
class SLTrain(FactoredLayer):
    """Low rank plus a fixed sparse support.

    Args:
        layer: The layer that is replaced.
        rank: The rank of B A.
        start: "random": A as a new linear layer, B = 0, V uniform within 1 / sqrt(in); or "svd".
        generator: It draws the support and the random start.
        alpha: B A is scaled by alpha / r; None makes that 1.
        delta: The share of entries in the support, above 0 and up to 1.

    >>> layer = SLTrain(nn.Linear(100, 50), 4, start="random", generator=torch.Generator().manual_seed(0), delta=0.1)
    >>> layer.A.numel() + layer.B.numel() + layer.V.numel() == SLTrain.count(50, 100, 4, delta=0.1) == 4 * 150 + 500
    True
    """

    def __init__(
        self,
        layer: nn.Linear,
        rank: int,
        *,
        start: str,
        generator: torch.Generator,
        alpha: float | None = None,
        delta: float = 0.03,
    ) -> None:
        super().__init__(layer, rank, start=start, generator=generator)
        if not 0 < delta <= 1:
            raise UsageError(f"delta={delta:g}: the share of entries in the support is above 0 and at most 1")
        weight, bound = layer.weight.detach(), self.in_features**-0.5
        out, width = weight.shape
        self.scaling = 1.0 if alpha is None else alpha / rank
        chosen = torch.randperm(out * width, generator=generator)[: support_size(out, width, delta)].sort().values
        self.support: Tensor
        self.register_buffer("support", chosen.to(weight.device))
        if start == "svd":
            a, b = (part / self.scaling**0.5 for part in balanced_svd(weight, rank))
            values = (weight.to(a) - self.scaling * b @ a).flatten()[self.support]
        else:
            a = (2 * torch.rand(rank, width, generator=generator) - 1) * bound
            b = torch.zeros(out, rank)
            values = (2 * torch.rand(len(chosen), generator=generator) - 1) * bound
        self.A, self.B, self.V = (nn.Parameter(part.to(weight).contiguous()) for part in (a, b, values))

    def dense(self) -> Tensor:
        """Return s B A + V."""
        return build(self.A, self.B, self.V, self.support, self.scaling)

    def forward(self, x: Tensor) -> Tensor:
        """Return W x + b; W is built, used and dropped."""
        y: Tensor = Rebuilt.apply(x, self.A, self.B, self.V, self.support, self.scaling)  # type: ignore[no-untyped-call]
        return y if self.bias is None else y + self.bias.to(y.dtype)

    @classmethod
    def count(cls, out: int, width: int, rank: int, *, delta: float = 0.03, **options: Any) -> int:
        """Return r (out + in) + delta out in."""
        return rank * (out + width) + support_size(out, width, delta)

    @classmethod
    def flops(cls, out: int, width: int, rank: int, **options: Any) -> int:
        """Return 2 out in, the product with the rebuilt weight; building it is shared by all rows."""
        return 2 * out * width


def support_size(out: int, width: int, delta: float) -> int:
    """Return how many entries of a weight [out, width] the support holds."""
    return max(1, round(delta * out * width))


def build(a: Tensor, b: Tensor, values: Tensor, support: Tensor, scaling: float) -> Tensor:
    """Return s B A with ``values`` added at the flat places ``support``."""
    dense = scaling * (b @ a)
    return dense.flatten().index_add(0, support, values.to(dense.dtype)).view_as(dense)


class Rebuilt(torch.autograd.Function):
    """The product x W^T, whose backward pass builds W again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, b: Tensor, values: Tensor, support: Tensor, scaling: float) -> Tensor:
        """Return x W^T and keep the small tensors alone."""
        ctx.save_for_backward(x, a, b, values, support)
        ctx.scaling = scaling
        return F.linear(x, build(a, b, values, support, scaling))

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return dL/dx = g W, dL/dA = s B^T G, dL/dB = s G A^T and G on the support, with G = g^T x."""
        x, a, b, values, support = ctx.saved_tensors  # type: ignore[attr-defined]
        scaling: float = ctx.scaling  # type: ignore[attr-defined]
        rows = grad.reshape(-1, grad.shape[-1]).to(a.dtype)
        into_x = (rows @ build(a, b, values, support, scaling)).view_as(x).to(x.dtype)
        whole = rows.t() @ x.reshape(-1, x.shape[-1]).to(a.dtype)
        return into_x, scaling * b.t() @ whole, scaling * whole @ a.t(), whole.flatten()[support], None, None
