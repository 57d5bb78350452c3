r"""NoRA: a LoRA inside a LoRA.

    dW = s B (B' A') A,    A = V_r^T [r, in],  B = U_r diag(sigma_r) [out, r],  A' [q, r] and B' [r, q] trained

The outer pair is W's top singular triplets, frozen, computed from W again wherever the adapter is loaded, and
not saved. Zero start: A' as LoRA's, B' = 0. Trained values: 2 r q. Rank of dW: min(q, r). A full inner rank
q = r reaches what LoRA-XS reaches.

Lin et al., NoRA: Nested Low-Rank Adaptation for Efficient Fine-Tuning Large Models, 2024, arXiv:2408.10280.

*Deviations*: which of the outer factors carries the singular values is LoRA-XS's choice.
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


@form("nora-nested")
@catalogued(
    "nora-nested",
    area="adapters.form",
    title="NoRA: Nested Low-Rank Adaptation for Efficient Fine-Tuning Large Models",
)
class NestedLoRA(Factored):
    """A trained inner LoRA between frozen outer factors.

    Args:
        site: where; its rank is the outer r.
        inner: q, from 1 up; None takes half of r, rounded up.

    >>> from lorank import lowrank
    >>> lowrank.attach(nn.Sequential(nn.Linear(30, 20)), "nora-nested", rank=8).num_parameters()
    64
    """

    outer_A: Tensor
    outer_B: Tensor
    lr = 0.002
    usual_rank = 64

    derived = ("outer_A", "outer_B")

    def __init__(self, site: Site, inner: int | None = None) -> None:
        super().__init__(site)
        if inner is not None and inner < 1:
            raise UsageError(f"inner rank {inner!r} is not an integer from 1 up")
        U, sigma, Vh = principal_triplets(site, site.rank)
        self.register_buffer("outer_A", Vh, persistent=False)
        self.register_buffer("outer_B", U * sigma, persistent=False)
        r = len(sigma)
        q = -(-r // 2) if inner is None else inner
        self.A = nn.Parameter(draw_uniform((q, r), site.generator("A")).to(site.device, site.dtype))
        self.B = nn.Parameter(torch.zeros(r, q, device=site.device, dtype=site.dtype))

    @classmethod
    def build(cls, sites: Sequence[Site], inner: int | None = None) -> list[Self]:  # type: ignore[override]
        return [cls(site, inner) for site in sites]

    def pair(self) -> tuple[Tensor, Tensor]:
        return self.A @ self.outer_A, self.outer_B @ self.B

    def parameter_count(self) -> int:
        return 2 * self.A.numel()

    def rank_bound(self) -> int:
        return min(self.A.shape)
