r"""Row scale: dW = diag(g) W, one trained number per output.

    y = x (W + diag(g) W)^T + b = (1 + g) * (x W^T) + b,    g [out] trained

Zero start: g = 0. Trained values: out. Rank of dW: that of W, at most min(out, in).
"""

import torch
from torch import Tensor, nn

import lorank
from lorank.lowrank import Form, Site
from lorank.lowrank.base import BaseLinear


@lorank.form("row-scale", title="One factor per output")
class RowScale(Form):
    """The update diag(g) W of one weight."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.g = nn.Parameter(torch.zeros(self.out_features, device=site.device, dtype=site.dtype))

    def update(self, x: Tensor, base: BaseLinear, output: Tensor) -> Tensor:
        return self.g * (output if base.bias is None else output - base.bias)

    def delta(self, weight: Tensor) -> Tensor:
        return self.g[:, None] * weight.to(self.g.dtype)

    def parameter_count(self) -> int:
        return self.out_features

    def rank_bound(self) -> int:
        return min(self.out_features, self.in_features)
