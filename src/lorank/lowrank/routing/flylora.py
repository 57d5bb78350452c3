r"""FlyLoRA: every rank is an expert, and a frozen sparse A is the router.

    h = A x [r],    S = the k largest of |h + d|,    dW x = s B[:, S] h_S

A [r, in] has ``nonzeros`` entries a row, N(0, 1 / r^2), drawn from the seed and never trained or saved: those of two
tasks are nearly orthogonal, so that their updates hardly meet in a sum. B [out, r] is trained, and a token gives a
gradient to its k columns alone. The bias d [r] is no parameter: after each step it grows by ``balance`` for a rank
that fewer than k / r of the step's tokens chose, and falls for the others. Zero start: B = 0, d = 0. Trained values:
r out. k = r is a LoRA whose A is frozen.

Zou et al., FlyLoRA: Boosting Task Decoupling and Parameter Efficiency via Implicit Rank-Wise Mixture-of-Experts, 2025,
arXiv:2510.08396.

*Deviations*: published code differs from itself: one version ranks |A x + d| but compares frequencies with raw counts,
the other ranks A x + d without the modulus and cuts the gradient to x; here |A x + d|, frequencies, and x gets its
gradient. ``nonzeros`` None is in k / r, rounded up, as we understand the paper.
"""

import math

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.forms.form import Site, form
from lorank.lowrank.replicas import sum_over_replicas
from lorank.lowrank.routing.token_routed import TokenRouted


@form("flylora")
@catalogued(
    "flylora",
    area="adapters.moe",
    title="FlyLoRA: Boosting Task Decoupling and Parameter Efficiency via Implicit Rank-Wise Mixture-of-Experts",
)
class FlyLoRA(TokenRouted):
    """Rank-wise experts behind a frozen sparse projection; ``top`` is k, None a quarter of the rank.

    >>> from lorank import lowrank
    >>> form = lowrank.attach(nn.Sequential(nn.Linear(32, 5)), "flylora", rank=8).forms["0"]
    >>> form.parameter_count(), form.top, (form.A != 0).sum(1).tolist()
    (40, 2, [8, 8, 8, 8, 8, 8, 8, 8])
    """

    lr = 0.005
    A: Tensor
    bias: Tensor

    def __init__(self, site: Site, top: int | None = None, nonzeros: int | None = None, balance: float = 1e-3) -> None:
        super().__init__(site)
        self.top = min(site.rank, max(1, site.rank // 4)) if top is None else top
        width = nonzeros or math.ceil(self.in_features * self.top / max(site.rank, 1))
        if not (min(1, site.rank) <= self.top <= site.rank and 1 <= max(width, 1) <= self.in_features):
            raise UsageError(
                f"top {top!r} must be in 1 to {site.rank} (the rank), nonzeros {nonzeros!r} in 1 to {self.in_features}"
            )
        self.balance = balance
        like = site.like
        generator = site.generator("flylora A")
        places = torch.rand(site.rank, self.in_features, generator=generator).argsort(1)[:, :width]
        values = torch.randn(site.rank, width, generator=generator) / max(site.rank, 1)
        A = torch.zeros(site.rank, self.in_features).scatter_(1, places, values)
        self.register_buffer("A", A.to(**like), persistent=False)
        self.register_buffer("bias", torch.zeros(site.rank, **like))
        self.chosen = torch.zeros(site.rank, device=site.device)  # counts of this process, so it is no buffer
        self.B = nn.Parameter(torch.zeros(self.out_features, site.rank, **like))

    def update(self, x: Tensor, base: BaseLinear, output: Tensor) -> Tensor:
        z = self.prepare_input(x)
        h = z @ self.A.t().to(z.dtype)
        if self.top < self.rank:
            counts = self.training and torch.is_grad_enabled()
            with torch.no_grad():
                best = (h + self.bias.to(h.dtype)).abs().topk(self.top, dim=-1).indices
                mask = torch.zeros_like(h).scatter_(-1, best, 1.0)
                if counts:
                    self.chosen = self.chosen.to(h.device) + mask.reshape(-1, self.rank).sum(0, dtype=torch.float32)
            h = h * mask
        return self.scaling * (h @ self.B.t().to(z.dtype))

    @torch.no_grad()
    def follow(self, step: int, total: int) -> None:
        """Move the bias by how often each rank was chosen since the last step, in all processes together."""
        chosen = sum_over_replicas(self.chosen.to(self.bias.device))
        tokens = chosen.sum() / max(self.top, 1)
        if tokens > 0:
            self.bias += (self.balance * (self.top / self.rank - chosen / tokens).sign()).to(self.bias.dtype)
            self.chosen.zero_()

    def advance_unattended(self, step: int) -> None:
        self.follow(step, 0)

    @torch.no_grad()
    def dense_update(self) -> Tensor:
        """Return s B A [out, in], the sum of all ranks: what merging tasks adds up."""
        return self.scaling * (self.B @ self.A)

    def parameter_count(self) -> int:
        return self.B.numel()

    def rank_bound(self) -> int:
        return min(self.rank, self.in_features, self.out_features)
