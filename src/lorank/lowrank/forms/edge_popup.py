r"""Edge-popup on a low-rank update: which of many fixed edges are in is learned, their weights are not.

    dW = s B A,    A [r, in] random and frozen,    B = c (M+ - M-) [out, r],    M+, M- in {0, 1}

Every entry of B has two edges, of weight c and of -c, and every edge a score; the ``density`` of all edges of the layer
with the highest scores are in, the rest are out. The gradient of a score is that of its edge as if it were in (straight
through the choice). What is trained is an order of edges, which a federation can vote on (``frl``). Zero start: the two
scores of a pair are equal, so that both are in or out. Trained values: 2 r out. Rank of dW: min(r, in, out).

Ramanujan et al., What's Hidden in a Randomly Weighted Neural Network?, 2020, arXiv:1911.13299. Mozaffari et al., FRL:
Federated Rank Learning, 2021, arXiv:2110.04350.

*Deviations*: the papers choose edges of a whole random network; here they are edges of an update of a trained one, and
come in pairs, so that it starts as it was. A is uniform in +-1/sqrt(in), as LoRA's.
"""

import torch
from torch import Tensor, nn

from lorank.lowrank.forms.factored import Factored
from lorank.lowrank.forms.form import Site, form


@form("edge-popup")
class EdgePopup(Factored):
    """A choice of fixed edges behind a frozen random projection.

    Args:
        site: where.
        density: the share of edges that are in, in (0, 1).
        size: c, the weight of an edge times sqrt(r).

    >>> from lorank import lowrank
    >>> lowrank.attach(nn.Sequential(nn.Linear(3, 2)), "edge-popup", rank=2).num_parameters()
    8
    """

    lr = 0.05
    A: Tensor

    def __init__(self, site: Site, density: float = 0.5, size: float = 1.0) -> None:
        super().__init__(site)
        bound = self.in_features**-0.5
        A = torch.empty(site.rank, self.in_features).uniform_(-bound, bound, generator=site.generator("A"))
        drawn = torch.rand(self.out_features, site.rank, generator=site.generator("scores")) * 2 - 1
        self.edge = size / max(site.rank, 1) ** 0.5
        self.chosen = 2 * int(density * self.out_features * site.rank)
        self.register_buffer("A", A.to(site.device, site.dtype))
        self.scores = nn.Parameter(drawn.repeat_interleave(2, dim=1).to(site.device, site.dtype))

    def mask(self) -> Tensor:
        """Return which edges are in, 0 or 1 [out, 2 r]; edges of equal scores go in by their place."""
        flat = self.scores.detach().flatten()
        inside = torch.sort(flat, descending=True, stable=True).indices[: self.chosen]
        return torch.zeros_like(flat).index_fill(0, inside, 1.0).view_as(self.scores)

    def pair(self) -> tuple[Tensor, Tensor]:
        through = self.mask() + (self.scores - self.scores.detach())
        return self.A, self.edge * (through[:, 0::2] - through[:, 1::2])

    def parameter_count(self) -> int:
        return self.scores.numel()

    def rank_bound(self) -> int:
        return min(self.rank, self.in_features, self.out_features)
