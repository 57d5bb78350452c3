r"""SALT: the top singular values of W are scaled and shifted, the rest of W gets a low-rank update.

    dW = U_k diag((a - 1) sigma_k + b) V_k^T + s (I - U_k U_k^T) B A (I - V_k V_k^T)

a and b [k] trained from 1 and 0; A [r, in] and B [out, r] as in LoRA, kept to what the top k triplets leave of
W. The vectors are computed from W again wherever the adapter is loaded. Zero start: b = 0, a = 1, B = 0.
Trained values: 2 k + r (in + out). Rank of dW: k + min(r, in - k, out - k). k = min(in, out) trains singular
values alone, k = 0 is LoRA.

Elsayed et al., SALT: Singular Value Adaptation with Low-Rank Transformation, 2025, arXiv:2503.16055.

*Deviations*: the published code adds its low-rank term to the whole middle matrix in the basis of U and V;
here the tail alone is updated, as the paper says, and full U and V are not kept.
"""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.forms.basis import draw_uniform
from lorank.lowrank.forms.factored import Factored
from lorank.lowrank.forms.form import Site, form
from lorank.lowrank.forms.spectral import principal_triplets


@form("salt")
@catalogued("salt", area="adapters.form", title="SALT: Singular Value Adaptation with Low-Rank Transformation")
class SALT(Factored):
    """Trained top singular values and a LoRA of the tail.

    Args:
        site: where.
        top: k, from 0 up; None takes r. More than min(in, out) is that minimum.

    >>> from lorank import lowrank
    >>> lowrank.attach(nn.Sequential(nn.Linear(3, 4)), "salt", rank=1, options={"top": 2}).num_parameters()
    11
    """

    lr = 0.001
    derived = ("U", "sigma", "Vh")

    def __init__(self, site: Site, top: int | None = None) -> None:
        super().__init__(site)
        if top is not None and top < 0:
            raise UsageError(f"top {top!r} is not an integer from 0 up")
        self.scaling, self.tail = 1.0, site.scaling
        U, sigma, Vh = principal_triplets(site, site.rank if top is None else top)
        self.register_buffer("U", U, persistent=False)
        self.register_buffer("sigma", sigma, persistent=False)
        self.register_buffer("Vh", Vh, persistent=False)
        A = draw_uniform((site.rank, self.in_features), site.generator("A"))
        self.A = nn.Parameter(A.to(site.device, site.dtype))
        self.B = nn.Parameter(torch.zeros(self.out_features, site.rank, device=site.device, dtype=site.dtype))
        if len(sigma):
            self.scale = nn.Parameter(torch.ones_like(sigma))
            self.shift = nn.Parameter(torch.zeros_like(sigma))

    @classmethod
    def build(cls, sites: Sequence[Site], top: int | None = None) -> list[Self]:
        return [cls(site, top) for site in sites]

    def pair(self) -> tuple[Tensor, Tensor]:
        if not len(self.sigma):
            return self.A, self.tail * self.B
        A = self.A - (self.A @ self.Vh.t()) @ self.Vh
        B = self.tail * (self.B - self.U @ (self.U.t() @ self.B))
        top = self.U * ((self.scale - 1) * self.sigma + self.shift)
        return torch.cat([self.Vh, A]), torch.cat([top, B], dim=1)

    def parameter_count(self) -> int:
        return 2 * len(self.sigma) + self.rank * (self.in_features + self.out_features)

    def rank_bound(self) -> int:
        k = len(self.sigma)
        return k + min(self.rank, self.in_features - k, self.out_features - k)
