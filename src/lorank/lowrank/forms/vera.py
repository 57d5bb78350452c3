r"""VeRA: random matrices shared by all layers, and two trained vectors a layer.

    dW = s diag(b) B diag(d) A,    A [r, in] and B [out, r] random and frozen, d [r] and b [out] trained

Zero start: d = 0.1, b = 0. The bases are drawn from the seed, the same for all layers of a shape, and never
saved. d is folded into B, so that the backward pass needs no gradient of A's size. Trained values: r + out.
Rank of dW: min(r, in, out).

Kopiczko, Blankevoort and Asano, VeRA: Vector-based Random Matrix Adaptation, 2023, arXiv:2310.11454.

*Deviations*: the paper has no scale (s is 1 unless alpha is given) and one pair of bases for all layers, cut
to each layer's size; here layers of different shapes have different bases, so that a layer's draws do not
depend on which others are adapted. The usual rank is 256.
"""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.lowrank.forms.basis import Shared, shared_basis
from lorank.lowrank.forms.factored import Factored
from lorank.lowrank.forms.form import Site, form


@form("vera")
@catalogued("vera", area="adapters.form", title="VeRA: Vector-based Random Matrix Adaptation")
class VeRA(Factored):
    """Two trained vectors between frozen random matrices.

    Args:
        site: where.
        shared: the bases that this adapter's layers share.
        initial: where d starts.

    >>> from torch import nn; from lorank import lowrank
    >>> lowrank.attach(nn.Sequential(nn.Linear(3, 2)), "vera", rank=4).num_parameters()
    6
    """

    lr = 0.05
    usual_rank = 256

    def __init__(self, site: Site, shared: Shared, initial: float = 0.1) -> None:
        super().__init__(site)
        self.A = shared_basis(shared, site, "vera A", (site.rank, self.in_features))
        self.B = shared_basis(shared, site, "vera B", (self.out_features, site.rank))
        self.d = nn.Parameter(torch.full((site.rank,), initial, dtype=site.dtype, device=site.device))
        self.b = nn.Parameter(torch.zeros(self.out_features, dtype=site.dtype, device=site.device))

    @classmethod
    def build(cls, sites: Sequence[Site], initial: float = 0.1) -> list[Self]:  # type: ignore[override]
        shared: Shared = {}
        return [cls(site, shared, initial) for site in sites]

    def pair(self) -> tuple[Tensor, Tensor]:
        return self.A.value, self.b.unsqueeze(1) * self.B.value * self.d

    def parameter_count(self) -> int:
        return self.rank + self.out_features

    def rank_bound(self) -> int:
        return min(self.rank, self.in_features, self.out_features)
