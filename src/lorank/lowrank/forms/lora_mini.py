r"""LoRA-Mini: each factor of a LoRA is split in two, and only the inner halves are trained.

    dW = s B_out B_in A_in A_out,    A_in [r, a] and B_in [b, r] trained,  A_out [a, in] and B_out [out, b] frozen

The outer ones are drawn from the seed and never saved. Zero start: A_in as LoRA's, B_in = 0. Trained values:
r (a + b), a = min(h, in), b = min(h, out) for an inner width h. Rank of dW: min(r, a, b).

Singh et al., LoRA-Mini: Adaptation Matrices Decomposition and Selective Training, 2024, arXiv:2411.15804.

*Deviations*: the paper gives its widths by table; here h is 4 r where it is not given.
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


@form("lora-mini")
@catalogued(
    "lora-mini",
    area="adapters.form",
    title="LoRA-Mini : Adaptation Matrices Decomposition and Selective Training",
)
class LoRAMini(Factored):
    """A trained pair between frozen random ones.

    Args:
        site: where.
        width: h, from 1 up; None takes 4 r.

    >>> from lorank import lowrank
    >>> lowrank.attach(nn.Sequential(nn.Linear(300, 200)), "lora-mini", rank=2).num_parameters()
    32
    """

    outer_A: Tensor
    outer_B: Tensor
    lr = 0.002
    usual_rank = 32

    def __init__(self, site: Site, width: int | None = None) -> None:
        super().__init__(site)
        if width is not None and width < 1:
            raise UsageError(f"width {width!r} is not an integer from 1 up")
        h = 4 * site.rank if width is None else width
        a, b = min(h, self.in_features), min(h, self.out_features)
        outer_A = draw_uniform((a, self.in_features), site.generator("outer A"))
        outer_B = draw_uniform((self.out_features, b), site.generator("outer B"))
        self.register_buffer("outer_A", outer_A.to(site.device, site.dtype), persistent=False)
        self.register_buffer("outer_B", outer_B.to(site.device, site.dtype), persistent=False)
        self.A = nn.Parameter(draw_uniform((site.rank, a), site.generator("A")).to(site.device, site.dtype))
        self.B = nn.Parameter(torch.zeros(b, site.rank, device=site.device, dtype=site.dtype))

    @classmethod
    def build(cls, sites: Sequence[Site], width: int | None = None) -> list[Self]:  # type: ignore[override]
        return [cls(site, width) for site in sites]

    def pair(self) -> tuple[Tensor, Tensor]:
        return self.A @ self.outer_A, self.outer_B @ self.B

    def parameter_count(self) -> int:
        return self.A.numel() + self.B.numel()

    def rank_bound(self) -> int:
        return min(self.rank, self.A.shape[1], self.B.shape[0])
