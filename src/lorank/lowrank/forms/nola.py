r"""NOLA: both factors of a LoRA are trained combinations of fixed random matrices.

    dW = s B A,    A = sum_{i=1..k} alpha_i A_i,    B = sum_{j=1..k} beta_j B_j

A_i [r, in] and B_j [out, r] uniform in +-1 / sqrt(k), drawn from the seed, shared by all layers of a shape and
never saved; alpha and beta [k] trained. Zero start: alpha normal with variance 1 / in, so that A has the scale
of LoRA's, and beta = 0. Trained values: 2 k, whatever the rank and the size of W. Rank of dW: min(r, in, out).

Koohpayegani et al., NOLA: Compressing LoRA using Linear Combination of Random Basis, 2023, arXiv:2310.02556.

*Deviations*: the published code starts both coefficients at 0 and adds a frozen random matrix to A.
"""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.forms.basis import Basis, Shared, draw_normal, shared_basis
from lorank.lowrank.forms.factored import Factored
from lorank.lowrank.forms.form import Site, form


def _draw_scaled_uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.empty(shape).uniform_(-1, 1, generator=generator) / float(shape[0] ** 0.5)


@form("nola")
@catalogued("nola", area="adapters.form", title="NOLA: Networks as Linear Combination of Low Rank Random Basis")
class NOLA(Factored):
    """Trained coefficients of random low-rank matrices.

    Args:
        site: where.
        shared: the bases that this adapter's layers share.
        bases: k, from 1 up.

    >>> from lorank import lowrank
    >>> lowrank.attach(nn.Sequential(nn.Linear(300, 200)), "nola", rank=4, options={"bases": 32}).num_parameters()
    64
    """

    lr = 0.01

    def __init__(self, site: Site, shared: Shared, bases: int = 128) -> None:
        super().__init__(site)
        if bases < 1:
            raise UsageError(f"bases {bases!r} is not an integer from 1 up")
        self.bases = bases
        self.A = shared_basis(shared, site, "nola A", (bases, site.rank, self.in_features), _draw_scaled_uniform)
        self.B = shared_basis(shared, site, "nola B", (bases, self.out_features, site.rank), _draw_scaled_uniform)
        alpha = draw_normal((bases,), site.generator("alpha")) * self.in_features**-0.5
        self.alphas = nn.Parameter(alpha.to(site.device, site.dtype))
        self.betas = nn.Parameter(torch.zeros(bases, device=site.device, dtype=site.dtype))

    @classmethod
    def build(cls, sites: Sequence[Site], bases: int = 128) -> list[Self]:  # type: ignore[override]
        shared: Shared = {}
        return [cls(site, shared, bases) for site in sites]

    def pair(self) -> tuple[Tensor, Tensor]:
        return _combine(self.alphas, self.A), _combine(self.betas, self.B)

    def parameter_count(self) -> int:
        return 2 * self.bases

    def rank_bound(self) -> int:
        return min(self.rank, self.in_features, self.out_features)


def _combine(coefficients: Tensor, basis: Basis) -> Tensor:
    return (coefficients @ basis.value.flatten(1)).view(basis.value.shape[1:])
