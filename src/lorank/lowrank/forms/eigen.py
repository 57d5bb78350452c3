r"""EigenLoRAx: trained coefficients on frozen orthonormal directions.

    dW = s (U_B c_B) (c_A V_A),    V_A [K, in] and U_B [out, K] orthonormal and frozen,  c_A [r, K],  c_B [K, r]

The directions are those that a library of adapters shares (`lorank.lowrank.algebra.subspaces.recycle`); until it is
given one, they are the principal directions of W itself. They are saved, since a library need not be available where
the adapter is loaded. Zero start: c_A uniform as LoRA's A on K inputs, c_B = 0. Trained values: 2 r K, K at most
min(in, out): K coefficients a row of A and a column of B. Rank of dW: min(r, K).

Kaushik et al., EigenLoRAx: Recycling Adapters to Find Principal Subspaces for Resource-Efficient Adaptation and
Inference, 2025, arXiv:2502.04700.

*Deviations*: see `lorank.lowrank.algebra.subspaces`. The paper has no directions without a library of adapters.
"""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.forms.basis import draw_uniform
from lorank.lowrank.forms.factored import Factored
from lorank.lowrank.forms.form import Factors, Site, form
from lorank.lowrank.forms.spectral import principal_triplets


@form("eigenlorax")
@catalogued(
    "eigenlorax",
    area="adapters.merge",
    title="EigenLoRAx: Recycling Adapters to Find Principal Subspaces for Resource-Efficient Adaptation and Inference",
)
class EigenLoRA(Factored):
    """Coefficients on shared directions.

    Args:
        site: where.
        components: K, from 1 up; None takes 32.

    >>> from lorank import lowrank
    >>> options = {"components": 8}
    >>> lowrank.attach(nn.Sequential(nn.Linear(30, 20)), "eigenlorax", rank=2, options=options).num_parameters()
    32
    """

    lr = 0.005
    usual_rank = 128

    def __init__(self, site: Site, components: int = 32) -> None:
        super().__init__(site)
        if components < 1:
            raise UsageError(f"components {components!r} is not an integer from 1 up")
        self.components = K = min(components, self.in_features, self.out_features)
        U, _, Vh = principal_triplets(site, K)
        self.register_buffer("V", Vh.contiguous())
        self.register_buffer("U", U.contiguous())
        self.c_A = nn.Parameter(draw_uniform((site.rank, K), site.generator("c")).to(site.device, site.dtype))
        self.c_B = nn.Parameter(torch.zeros(K, site.rank, device=site.device, dtype=site.dtype))

    @classmethod
    def build(cls, sites: Sequence[Site], components: int = 32) -> list[Self]:
        return [cls(site, components) for site in sites]

    def pair(self) -> tuple[Tensor, Tensor]:
        return self.c_A @ self.V, self.U @ self.c_B

    @torch.no_grad()
    def set_bases(self, V: Tensor, U: Tensor) -> None:
        """Put other directions under the coefficients, and c_B back to 0."""
        self.V.copy_(V)
        self.U.copy_(U)
        self.c_B.zero_()

    @torch.no_grad()
    def set_factors(self, factors: Factors) -> None:
        """Write the coefficients of A and s' B / s on these directions."""
        k = factors.A.shape[0]
        if k > self.rank or not self.scaling:
            raise UsageError(f"{k} components do not fit into rank {self.rank}")
        self.c_A[:k] = factors.A.to(self.V) @ self.V.t()
        self.c_B.zero_()
        self.c_B[:, :k] = self.U.t() @ (factors.scaling / self.scaling * factors.B).to(self.U)

    def parameter_count(self) -> int:
        return 2 * self.rank * self.components

    def rank_bound(self) -> int:
        return min(self.rank, self.components)
