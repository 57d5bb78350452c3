r"""RandLoRA: a full-rank update made of fixed random bases and trained diagonals.

    dW = s sum_{i=1..n} B_i diag(lambda_i) A diag(gamma_i),    n = ceil(k / r),  k = min(in, out),  d = max(in, out)

A [r, k] and B_i [d, r] random and frozen, lambda [n, r] and gamma [n, k] trained; the transpose where in > out.
Zero start: lambda = 0, gamma = 1 / max(n, k). The bases are drawn from the seed, shared by all layers of a
shape, and never saved. Trained values: n (r + k). Rank of dW: min(in, out),
from the second gradient step on: gamma has no gradient while lambda is 0, and equal gammas leave rank r.

The n bases together are no thinner than W, so dW is written as a matrix once a step.

Albert et al., RandLoRA: Full-rank parameter-efficient fine-tuning of large models, 2025, arXiv:2502.00987.

*Deviations*: the bases are standard normal. PEFT cuts them out of one pair for all layers, saves them, and
pairs the columns of B with rows of A in another fixed order.
"""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.lowrank.forms.basis import Shared, normal, shared_basis
from lorank.lowrank.forms.dense import Dense
from lorank.lowrank.forms.form import Site, form


@form("randlora")
@catalogued(
    "randlora",
    area="adapters.form",
    title="RandLoRA: Full-rank parameter-efficient fine-tuning of large models",
)
class RandLoRA(Dense):
    """Trained diagonals between random bases.

    >>> from lorank import lowrank
    >>> form = lowrank.attach(nn.Sequential(nn.Linear(5, 8)), "randlora", rank=2).forms["0"]
    >>> form.parameter_count(), form.rank_bound()
    (21, 5)
    """

    def __init__(self, site: Site, shared: Shared) -> None:
        super().__init__(site)
        k, d = sorted((self.in_features, self.out_features))
        n = -(-k // site.rank) if site.rank else 0
        self.A = shared_basis(shared, site, "randlora A", (site.rank, k), normal)
        self.B = shared_basis(shared, site, "randlora B", (d, n, site.rank), normal)
        self.lambdas = nn.Parameter(torch.zeros(n, site.rank, device=site.device, dtype=site.dtype))
        self.gamma = nn.Parameter(torch.full((n, k), 1 / max(n, k), device=site.device, dtype=site.dtype))

    @classmethod
    def build(cls, sites: Sequence[Site]) -> list[Self]:
        shared: Shared = {}
        return [cls(site, shared) for site in sites]

    def matrix(self, weight: Tensor | None) -> Tensor:
        scaled = self.lambdas.unsqueeze(2) * self.A.value * self.gamma.unsqueeze(1)
        dense = self.scaling * (self.B.value.flatten(1) @ scaled.flatten(0, 1))
        return dense if self.in_features <= self.out_features else dense.t()

    def parameter_count(self) -> int:
        return self.lambdas.numel() + self.gamma.numel()

    def rank_bound(self) -> int:
        return min(self.in_features, self.out_features) if self.rank else 0
