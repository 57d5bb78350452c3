r"""LoLDU: only the diagonal of an LDU decomposition of W is trained.

    W = P L diag(d) U    dW = P L_r diag(c z - s d_r) U_r,    z [r] and the factor c trained

P a permutation, L [out, k] unit lower and U [k, in] unit upper triangular, L_r and U_r their first r columns and
rows. Zero start: z = d_r, c = s = alpha / r. All but z and c is computed from W again wherever the adapter is
loaded. Trained values: r + 1, r at most min(in, out). Rank of dW: r.

Shi et al., LoLDU: Low-Rank Adaptation via Lower-Diag-Upper Decomposition for Parameter-Efficient Fine-Tuning,
2024, arXiv:2410.13618.

*Deviations*: the published code saves z alone, so that c is lost; it divides by pivots of 0, where here d = 0
keeps its row of U undivided; it writes dW as a matrix in every forward pass.
"""

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.lowrank.forms.factored import Factored
from lorank.lowrank.forms.form import Site, form


@form("loldu")
@catalogued(
    "loldu",
    area="adapters.form",
    title="LoLDU: Low-Rank Adaptation via Lower-Diag-Upper Decomposition for Parameter-Efficient Fine-Tuning",
)
class LoLDU(Factored):
    """A trained diagonal between frozen triangles.

    >>> from lorank import lowrank
    >>> lowrank.attach(nn.Sequential(nn.Linear(30, 20)), "loldu", rank=8).num_parameters()
    9
    """

    A: Tensor
    B: Tensor
    held: Tensor
    lr = 0.001
    usual_rank = 256

    derived = ("A", "B", "held")

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.scaling, start = 1.0, site.scaling
        P, L, U = torch.linalg.lu(site.base.weight.detach().to(torch.float64))
        k = min(site.rank, *U.shape)
        diagonal = U.diagonal()[:k]
        small = diagonal.abs() <= torch.finfo(torch.float64).eps * U.abs().amax() if k else diagonal.bool()
        upper = U[:k] / torch.where(small, 1.0, diagonal).unsqueeze(1)
        diagonal = torch.where(small, 0.0, diagonal)
        self.register_buffer("A", upper.to(site.dtype), persistent=False)
        self.register_buffer("B", (P @ L[:, :k]).to(site.dtype), persistent=False)
        self.register_buffer("held", (start * diagonal).to(site.dtype), persistent=False)
        self.z = nn.Parameter(diagonal.to(site.dtype))
        self.c = nn.Parameter(torch.full((1 if k else 0,), start, device=site.device, dtype=site.dtype))

    def pair(self) -> tuple[Tensor, Tensor]:
        return self.A, self.B * (self.c * self.z - self.held)

    def parameter_count(self) -> int:
        return len(self.z) + len(self.c)

    def rank_bound(self) -> int:
        return len(self.z)
