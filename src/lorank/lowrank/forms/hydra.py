r"""Hydra: a LoRA beside the layer and a LoRA behind it.

    W + dW = (I + s B_s A_s) W + s B_p A_p

    A_p [r, in], B_p [out, r] on the layer's input, A_s [r, out], B_s [out, r] on its output without the bias

It needs W's output alone, not W. Zero start: both A as LoRA's, both B = 0. Trained values: r (in + 3 out).
Rank of dW: min(2 r, in, out). B_s = 0 is LoRA, B_p = 0 a linear sequential adapter.

Kim et al., Hydra: Multi-head Low-rank Adaptation for Parameter Efficient Fine-tuning, 2023, arXiv:2309.06922.

*Deviations*: the published code has biases and lets the layer's bias through the sequential branch; both would
change the bias when merged, which an update of W does not.
"""

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.forms.basis import draw_uniform
from lorank.lowrank.forms.form import Form, Site, form
from lorank.lowrank.linalg import widen
from lorank.lowrank.product import low_rank_linear


@form("hydra")
@catalogued(
    "hydra",
    area="adapters.form",
    title="Hydra: Multi-head Low-rank Adaptation for Parameter Efficient Fine-tuning",
)
class Hydra(Form):
    """A parallel and a sequential branch.

    >>> from lorank import lowrank
    >>> lowrank.attach(nn.Sequential(nn.Linear(3, 2)), "hydra", rank=1).num_parameters()
    9
    """

    lr = 0.0005

    def __init__(self, site: Site) -> None:
        super().__init__(site)

        def factor(value: Tensor) -> nn.Parameter:
            return nn.Parameter(value.to(site.device, site.dtype))

        self.A = factor(draw_uniform((site.rank, self.in_features), site.generator("A")))
        self.B = factor(torch.zeros(self.out_features, site.rank))
        self.A_behind = factor(draw_uniform((site.rank, self.out_features), site.generator("A behind")))
        self.B_behind = factor(torch.zeros(self.out_features, site.rank))

    def forward(self, x: Tensor, base: BaseLinear) -> Tensor:
        if not base.plain or (self.training and self.dropout):
            return super().forward(x, base)
        W = base.weight
        A = torch.cat([self.A, self.A_behind @ W.to(self.A_behind.dtype)])
        B = torch.cat([self.B, self.B_behind], dim=1)
        return low_rank_linear(x, W, base.bias, A, B, self.scaling)

    def update(self, x: Tensor, base: BaseLinear, output: Tensor) -> Tensor:
        z = self.prepare_input(x)
        plain = self.prepare_input(output if base.bias is None else output - base.bias)
        A, B, A_s, B_s = (t.to(z.dtype) for t in (self.A, self.B, self.A_behind, self.B_behind))
        inner = torch.cat([z @ A.t(), plain.to(z.dtype) @ A_s.t()], dim=-1)
        return self.scaling * (inner @ torch.cat([B, B_s], dim=1).t())

    def write_out(self, base: BaseLinear) -> Tensor:
        W, A, B, A_s, B_s = widen(base.weight, self.A, self.B, self.A_behind, self.B_behind)
        return self.scaling * (B_s @ (A_s @ W) + B @ A)

    @torch.no_grad()
    def delta(self, weight: Tensor) -> Tensor:
        W, A, B, A_s, B_s = widen(weight, self.A, self.B, self.A_behind, self.B_behind)
        return self.scaling * (B_s @ (A_s @ W) + B @ A)

    def parameter_count(self) -> int:
        return self.rank * (self.in_features + 3 * self.out_features)

    def rank_bound(self) -> int:
        return min(2 * self.rank, self.in_features, self.out_features)
