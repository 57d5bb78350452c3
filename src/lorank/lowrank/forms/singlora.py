r"""SingLoRA: one matrix times its own transpose, ramped in.

    dW = s u A_out A_in^T,    A [max(in, out), r] trained, A_out its first out rows, A_in its first in rows

u = min(t / T, 1) after t optimizer steps, T a share of all steps (``advance``), or 10 where none is given. Zero start:
A normal with variance 1 / in, u = 0: the first step's gradient is 0 by design. dW stays the same for A Q with Q
orthogonal, and is symmetric and positive semi-definite for square W and s > 0. Trained values: r max(in, out). Rank
of dW: min(r, in, out).

Bensaid et al., SingLoRA: Low Rank Adaptation Using a Single Matrix, 2025, arXiv:2507.05566.
"""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.forms.basis import draw_normal
from lorank.lowrank.forms.factored import Factored
from lorank.lowrank.forms.form import Site, form

UNATTENDED_RAMP = 10
"""T of a training loop that does not tell how many steps there are."""


@form("singlora")
@catalogued("singlora", area="adapters.form", title="SingLoRA: Low Rank Adaptation Using a Single Matrix")
class SingLoRA(Factored):
    """One matrix on both sides.

    Args:
        site: where.
        ramp: the share of training, in (0, 1], after which u is 1.

    >>> from lorank import lowrank
    >>> form = lowrank.attach(nn.Sequential(nn.Linear(3, 2)), "singlora", rank=1).forms["0"]
    >>> form.advance(5, 1000); form.parameter_count(), round(form.u.item(), 6)
    (3, 0.5)
    """

    u: Tensor
    lr = 0.002
    unattended_effect = f"ramps in over its first {UNATTENDED_RAMP} steps"

    def __init__(self, site: Site, ramp: float = 0.01) -> None:
        super().__init__(site)
        if not 0 < ramp <= 1:
            raise UsageError(f"ramp {ramp!r} is not in (0, 1]")
        self.ramp = ramp
        A = draw_normal((max(self.in_features, self.out_features), site.rank), site.generator("A"))
        self.A = nn.Parameter((A * self.in_features**-0.5).to(site.device, site.dtype))
        self.register_buffer("u", torch.zeros((), device=site.device, dtype=site.dtype))

    @classmethod
    def build(cls, sites: Sequence[Site], ramp: float = 0.01) -> list[Self]:  # type: ignore[override]
        return [cls(site, ramp) for site in sites]

    def follow(self, step: int, total: int) -> None:
        self.u.fill_(min(step / (self.ramp * max(total, 1)), 1.0))

    @torch.no_grad()
    def advance_unattended(self, step: int) -> None:
        self.u = torch.full_like(self.u, step / UNATTENDED_RAMP).clamp_max(1.0).maximum(self.u)

    def pair(self) -> tuple[Tensor, Tensor]:
        return self.A[: self.in_features].t(), self.u * self.A[: self.out_features]

    def parameter_count(self) -> int:
        return self.rank * max(self.in_features, self.out_features)

    def rank_bound(self) -> int:
        return min(self.rank, self.in_features, self.out_features)
