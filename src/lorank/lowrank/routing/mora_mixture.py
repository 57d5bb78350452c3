r"""MoRA: every rank is an expert that its own activation calls, and each task adds ranks and freezes those before.

    h_i = a_i^T x,   q_i = |h_i| / (||a_i|| ||x||),   p = softmax(q / tau),   S = the k largest of p
    dW x = s sum_{i in S} (k p_i / sum_{j in S} p_j) h_i b_i

A [R, in] and B [out, R] are those of ``frozen`` ranks of former tasks and of r new ones, which alone are trained.
There is no router to train: an input along a_i calls rank i. The weights of the active ranks sum to k, so that equal
ones are a plain LoRA of the active ranks, and so is an infinite ``temperature`` with all ranks active. No input uses
more than k ranks. Zero start: the new B = 0. Trained values: r (in + out).

Lu et al., Little By Little: Continual Learning via Self-Activated Sparse Mixture-of-Rank Adaptive Learning, 2025,
arXiv:2506.21035.

*Deviations* [~]: no code was found. The relevance is the modulus of the cosine, since (a_i, b_i) and (-a_i, -b_i)
are the same rank; weights are scaled by k, so that their mean is 1. Ranks are not pruned.
"""

import math

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.forms.form import Site, form
from lorank.lowrank.routing.token_routed import TokenRouted


@form("mora-mixture")
@catalogued(
    "mora-mixture",
    area="continual",
    title="Little By Little: Continual Learning via Self-Activated Sparse Mixture-of-Rank Adaptive Learning",
)
class MoraMixture(TokenRouted):
    """Rank-1 experts that activate themselves.

    Args:
        site: Where; r and s come from it.
        top: k, the most ranks that an input uses; None is r.
        temperature: tau, above 0; infinite gives active ranks equal weights.
        frozen: The number of ranks of former tasks.

    >>> from lorank import lowrank
    >>> form = lowrank.attach(nn.Sequential(nn.Linear(8, 5)), "mora-mixture", rank=3, options={"frozen": 6}).forms["0"]
    >>> form.parameter_count(), form.top, tuple(form.all_A().shape)
    (39, 3, (9, 8))
    """

    lr = 0.001
    old_A: Tensor
    old_B: Tensor

    def __init__(self, site: Site, top: int | None = None, temperature: float = 0.1, frozen: int = 0) -> None:
        super().__init__(site)
        ranks = site.rank + frozen if frozen >= 0 else 0
        self.top = min(site.rank, ranks) if top is None else top
        if frozen < 0 or not min(1, ranks) <= self.top <= ranks:
            raise UsageError(
                f"top {top!r} must be in 1 to {ranks}, the ranks there are, and frozen {frozen!r} 0 or more"
            )
        if not temperature > 0:
            raise UsageError(f"temperature {temperature!r} is not above 0")
        self.temperature, self.old_ranks = temperature, frozen
        bound = self.in_features**-0.5
        A = torch.empty(site.rank, self.in_features).uniform_(-bound, bound, generator=site.generator(f"A {frozen}"))
        self.A = nn.Parameter(A.to(site.device, site.dtype))
        self.B = nn.Parameter(self._zeros(site, self.out_features, site.rank))
        self.register_buffer("old_A", self._zeros(site, frozen, self.in_features))
        self.register_buffer("old_B", self._zeros(site, self.out_features, frozen))

    @staticmethod
    def _zeros(site: Site, rows: int, columns: int) -> Tensor:
        return torch.zeros(rows, columns, device=site.device, dtype=site.dtype)

    def all_A(self) -> Tensor:
        """Return A [R, in], those of former tasks first."""
        return torch.cat([self.old_A, self.A]) if self.old_ranks else self.A

    def all_B(self) -> Tensor:
        """Return B [out, R] likewise."""
        return torch.cat([self.old_B, self.B], 1) if self.old_ranks else self.B

    def weights(self, x: Tensor, h: Tensor, A: Tensor) -> Tensor:
        """Return the weight of each rank for each input [..., R]: at most k are not 0, and they sum to k."""
        if math.isinf(self.temperature):
            scores = torch.zeros_like(h)
        else:
            lengths = A.norm(dim=1) * x.norm(dim=-1, keepdim=True)
            scores = h.abs() / lengths.clamp_min(torch.finfo(h.dtype).tiny ** 0.5) / self.temperature
        if self.top < scores.shape[-1]:
            best = scores.topk(self.top, dim=-1).indices
            outside = torch.ones_like(scores, dtype=torch.bool).scatter_(-1, best, False)
            scores = scores.masked_fill(outside, -math.inf)
        return scores.softmax(-1) * self.top

    def update(self, x: Tensor, base: BaseLinear, output: Tensor) -> Tensor:
        z = self.prepare_input(x)
        A, B = self.all_A().to(z.dtype), self.all_B().to(z.dtype)
        h = z @ A.t()
        if h.shape[-1]:
            h = h * self.weights(z, h, A)
        return self.scaling * (h @ B.t())

    @torch.no_grad()
    def take_over(self, former: "MoraMixture") -> None:
        """Freeze the ranks of a former task's form, old and new, as this form's old ones.

        Raises:
            UsageError: Where they are not as many as this form has room for.
        """
        A, B = former.all_A(), former.all_B()
        if A.shape != self.old_A.shape or B.shape != self.old_B.shape:
            raise UsageError(f"{len(A)} former ranks do not fit into the {self.old_ranks} frozen ones of this form")
        self.old_A.copy_(A)
        self.old_B.copy_(B)

    def parameter_count(self) -> int:
        return self.A.numel() + self.B.numel()

    def rank_bound(self) -> int:
        return min(self.rank + self.old_ranks, self.in_features, self.out_features)
