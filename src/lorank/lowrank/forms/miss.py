r"""MiSS: a LoRA whose A only sums the input over blocks.

    dW = s D^T A,    A[j, i] = 1 where i mod k = j, else 0,    D [k, out] trained,    k = min(r, in)

so that A x is the sum of x over consecutive blocks of k inputs, which no product computes. Zero start: D = 0.
Trained values: k out. Rank of dW: min(k, out).

Kang and Yin, MiSS: Balancing LoRA Performance and Efficiency with Simple Shard Sharing (first called Bone),
2024, arXiv:2409.15371.

*Deviations*: s is 1 unless alpha is given; the paper has none. The usual rank is 64.
"""

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.forms.form import Factors, Form, Site, form


@form("miss")
@catalogued(
    "miss",
    area="adapters.form",
    title="MiSS: Balancing LoRA Performance and Efficiency with Simple Shard Sharing",
)
class MiSS(Form):
    """One trained matrix on the input summed over blocks.

    >>> from lorank import lowrank
    >>> lowrank.attach(nn.Sequential(nn.Linear(3, 2)), "miss", rank=2).num_parameters()
    4
    """

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.side = min(site.rank, self.in_features)
        self.D = nn.Parameter(torch.zeros(self.side, self.out_features, device=site.device, dtype=site.dtype))

    def update(self, x: Tensor, base: BaseLinear, output: Tensor) -> Tensor:
        z = self.entering(x)
        if not self.side:
            return z.new_zeros(*z.shape[:-1], self.out_features)
        padded = nn.functional.pad(z, (0, -self.in_features % self.side))
        summed = padded.reshape(*z.shape[:-1], padded.shape[-1] // self.side, self.side).sum(-2)
        return self.scaling * (summed @ self.D.to(z.dtype))

    @torch.no_grad()
    def as_lora(self) -> Factors | None:
        A = self.D.new_zeros(self.side, self.in_features)
        inputs = torch.arange(self.in_features if self.side else 0, device=A.device)
        A[inputs % max(self.side, 1), inputs] = 1
        return Factors(A, self.D.detach().t(), self.scaling)

    def delta(self, weight: Tensor) -> Tensor:
        A, B, scaling = self.as_lora()
        return scaling * (B @ A)

    def parameter_count(self) -> int:
        return self.side * self.out_features

    def rank_bound(self) -> int:
        return min(self.side, self.out_features)
