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
from lorank.lowrank.forms.factored import Factored
from lorank.lowrank.forms.form import Site, form


@form("miss")
@catalogued(
    "miss",
    area="adapters.form",
    title="MiSS: Balancing LoRA Performance and Efficiency with Simple Shard Sharing",
)
class MiSS(Factored):
    """One trained matrix on the input summed over blocks.

    >>> from lorank import lowrank
    >>> lowrank.attach(nn.Sequential(nn.Linear(3, 2)), "miss", rank=2).num_parameters()
    4
    """

    A: Tensor
    lr = 0.001

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.side = min(site.rank, self.in_features)
        self.D = nn.Parameter(torch.zeros(self.side, self.out_features, device=site.device, dtype=site.dtype))
        A = torch.zeros(self.side, self.in_features, device=site.device, dtype=site.dtype)
        inputs = torch.arange(self.in_features if self.side else 0, device=site.device)
        A[inputs % max(self.side, 1), inputs] = 1
        self.register_buffer("A", A, persistent=False)

    def pair(self) -> tuple[Tensor, Tensor]:
        return self.A, self.D.t()

    def parameter_count(self) -> int:
        return self.side * self.out_features

    def rank_bound(self) -> int:
        return min(self.side, self.out_features)
