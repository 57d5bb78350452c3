r"""LoRA-Squeeze in training: a LoRA whose rank falls in steps from r to a target while it is trained.

    dW = s B[:, :k] A[:k],    k = r at first, then geometrically down to the target in ``stages`` squeezes

At a squeeze the leading k triplets of the present dW become the factors, A' = sqrt(sigma / s) V^T and
B' = U sqrt(sigma / s), so that dW stays its own best approximation of rank k and s stays. The squeezes come at
equal distances within the first two thirds of training (``advance``); the rest is the short tuning at the
target rank. Zero start: A as LoRA's, B = 0. Trained values: r (in + out) at first, target (in + out) at the
end. Rank of dW: min(k, in, out).

LoRA-Squeeze: Simple and Effective Post-Tuning and In-Tuning Compression of LoRA Modules.

*Deviations*: the ranks fall geometrically. The optimizer's moments of the components that stay are kept,
though a squeeze turns them.
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
from lorank.lowrank.linalg import top_k_svd


def falling_ranks(rank: int, target: int, stages: int) -> list[int]:
    """Return the rank after each squeeze, the last being ``target``.

    >>> falling_ranks(32, 4, 3), falling_ranks(4, 4, 2)
    ([16, 8, 4], [4, 4])
    """
    if not target:
        return [0] * stages
    return [round(rank * (target / rank) ** (stage / stages)) for stage in range(1, stages + 1)]


@form("lora-squeeze")
@catalogued(
    "lora-squeeze",
    area="adapters.merge",
    title="LoRA-Squeeze: Simple and Effective Post-Tuning and In-Tuning Compression of LoRA Modules",
)
class Squeezed(Factored):
    """A LoRA that is squeezed while it is trained.

    Args:
        site: where; its rank is the first one.
        target: the last rank, at most the first; None takes a quarter of it, rounded up.
        stages: how many squeezes, from 1 up.

    >>> from lorank import lowrank
    >>> form = lowrank.attach(nn.Sequential(nn.Linear(9, 9)), "lora-squeeze", rank=8).forms["0"]
    >>> form.rank_bound(), form.advance(2, 3), form.rank_bound()
    (8, None, 2)
    """

    lr = 0.002
    unattended_effect = "keeps its first rank"

    def __init__(self, site: Site, target: int | None = None, stages: int = 3) -> None:
        super().__init__(site)
        target = -(-site.rank // 4) if target is None else target
        if target < 0 or stages < 1:
            raise UsageError(f"target {target!r} is not from 0 up, or stages {stages!r} not from 1 up")
        self.ranks = [site.rank, *falling_ranks(site.rank, min(target, site.rank), stages)]
        A = draw_uniform((site.rank, self.in_features), site.generator("A"))
        self.A = nn.Parameter(A.to(site.device, site.dtype))
        self.B = nn.Parameter(torch.zeros(self.out_features, site.rank, device=site.device, dtype=site.dtype))
        self.register_buffer("stage", torch.zeros((), dtype=torch.long))

    @classmethod
    def build(cls, sites: Sequence[Site], target: int | None = None, stages: int = 3) -> list[Self]:
        return [cls(site, target, stages) for site in sites]

    @property
    def kept(self) -> int:
        """k, the present rank."""
        return self.ranks[int(self.stage)]

    def pair(self) -> tuple[Tensor, Tensor]:
        k = self.kept
        return self.A[:k], self.B[:, :k]

    def follow(self, step: int, total: int) -> None:
        stages = len(self.ranks) - 1
        due = min(int(1.5 * step / max(total, 1) * stages), stages)
        if due > int(self.stage):
            self.squeeze(due)

    @torch.no_grad()
    def squeeze(self, stage: int) -> None:
        """Keep the leading triplets of dW that ``stage`` leaves; the components below are 0 from now on."""
        A, B = (factor.double() for factor in self.pair())
        Q_B, R_B = torch.linalg.qr(B)
        Q_A, R_A = torch.linalg.qr(A.t())
        U, sigma, Vh = top_k_svd(R_B @ R_A.t(), self.ranks[stage])
        root, found = sigma.sqrt(), len(sigma)
        self.A.zero_()
        self.B.zero_()
        self.A[:found] = root[:, None] * (Vh @ Q_A.t())
        self.B[:, :found] = (Q_B @ U) * root
        self.stage.fill_(stage)

    def parameter_count(self) -> int:
        return self.rank * (self.in_features + self.out_features)

    def rank_bound(self) -> int:
        return min(self.kept, self.in_features, self.out_features)
