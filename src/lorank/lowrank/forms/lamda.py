r"""LaMDA: a trained square between a frozen spectral factor and one that is frozen early.

    dW = s P S A,    A = V_r^T [r, in] frozen,  S [r, r] trained,  P [out, r] trained, then frozen group by group

Zero start: S = 0 and P = U_r of W's top singular triplets. P's rows are cut into groups, which stop one after the
other in the first part of training (``advance``); S alone is left, so the trained values fall from r (r + out) to
r^2. Where processes train together, stopped rows stay among the parameters, with gradient 0 and put back after each
step, since wrappers such as DistributedDataParallel wait for the gradients they have seen first. A is computed from W
again wherever the adapter is loaded and not saved. r is at most min(in, out). Rank of dW: r.

Azizi, Kundu and Pedram, LaMDA: Large Model Fine-Tuning via Spectrally Decomposed Low-Dimensional Adaptation,
2024, arXiv:2406.12832.

*Deviations*: S starts at 0, so that the output does not move. The published code draws its factors at random
although the paper starts from W's spectrum; the paper is followed. LaMDA++'s ranks are the start
``spectrum-ranks``.
"""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.forms.factored import Factored
from lorank.lowrank.forms.form import Site, form
from lorank.lowrank.forms.spectral import principal_triplets
from lorank.lowrank.replicas import is_distributed


@form("lamda")
@catalogued(
    "lamda",
    area="adapters.form",
    title="LaMDA: Large Model Fine-Tuning via Spectrally Decomposed Low-Dimensional Adaptation",
)
class LaMDA(Factored):
    """A square in W's principal row space, and an outer factor that stops early.

    Args:
        site: where.
        early: the share of training, in (0, 1], after which all of P is frozen.
        groups: how many groups of rows P is cut into, from 1 up.

    >>> from lorank import lowrank
    >>> adapter = lowrank.attach(nn.Sequential(nn.Linear(5, 8)), "lamda", rank=2)
    >>> before = adapter.num_parameters(); adapter.forms["0"].advance(1, 2); before, adapter.num_parameters()
    (20, 4)
    """

    A: Tensor
    lr = 0.02
    derived = ("A",)
    unattended_effect = "trains its outer factor to the end"

    def __init__(self, site: Site, early: float = 0.3, groups: int = 4) -> None:
        super().__init__(site)
        if not 0 < early <= 1 or groups < 1:
            raise UsageError(f"early {early!r} is not in (0, 1], or groups {groups!r} not from 1 up")
        self.early = early
        self._stopped: list[Tensor] = []
        U, sigma, Vh = principal_triplets(site, site.rank)
        self.register_buffer("A", Vh, persistent=False)
        k = len(sigma)
        self.S = nn.Parameter(torch.zeros(k, k, device=site.device, dtype=site.dtype))
        self.P = nn.ParameterList(part.contiguous() for part in U.tensor_split(min(groups, self.out_features)))

    @classmethod
    def build(cls, sites: Sequence[Site], early: float = 0.3, groups: int = 4) -> list[Self]:  # type: ignore[override]
        return [cls(site, early, groups) for site in sites]

    @torch.no_grad()
    def follow(self, step: int, total: int) -> None:
        share = min(step / (self.early * max(total, 1)), 1.0)
        for part, held in zip(self.P, self._stopped, strict=False):
            part.copy_(held)  # weight decay and momentum go on where the part could not leave the optimizer
        for part in list(self.P)[len(self._stopped) : int(share * len(self.P))]:
            self._stopped.append(part.detach().clone())
            part.requires_grad_(is_distributed())
            part.grad = None

    def pair(self) -> tuple[Tensor, Tensor]:
        stopped = len(self._stopped)
        parts = [part.detach() + 0 * part if i < stopped else part for i, part in enumerate(self.P)]
        return self.A, torch.cat(parts) @ self.S

    def parameter_count(self) -> int:
        rows = sum(len(part) for part in self.P if part.requires_grad)
        return len(self.S) * (len(self.S) + rows)

    def rank_bound(self) -> int:
        return len(self.S)
