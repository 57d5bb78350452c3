r"""Mixture of routers: sub-routers vote for LoRA experts, and a main router weighs the votes.

    w = softmax(M x) [routers],    p = sum_j w_j softmax(R_j x) [experts],    S = the ``top`` largest of p
    dW x = s sum_{e in S} (p_e / sum_{S} p) B_e A_e x

A [experts, r, in], B [experts, out, r], R [routers, experts, in], M [routers, in]. The penalty is Switch's balance,
experts sum_e f_e mean(p_e), with f_e the share of choices that fell on e; it is 1 where all are used alike. Zero start:
B = 0, M = 0. Trained values: experts r (in + out) + routers (experts + 1) in. One router is a plain mixture of LoRA
experts; one expert is a LoRA.

Zhang et al., Mixture of Routers, 2025, arXiv:2503.23362.

*Deviations*: all experts' small products are computed and those not chosen are multiplied by 0, which costs less than
gathering tokens at these ranks.
"""

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.forms.form import Site, form
from lorank.lowrank.pathway import in_backward_pass
from lorank.lowrank.routing.token_routed import TokenRouted


@form("mixture-of-routers")
@catalogued("mixture-of-routers", area="adapters.moe", title="Mixture of Routers")
class MixtureOfRouters(TokenRouted):
    """``top`` of ``experts`` LoRAs a token, chosen by ``routers`` that are weighed in turn.

    >>> from lorank import lowrank
    >>> options = {"experts": 3, "routers": 2}
    >>> lowrank.attach(nn.Sequential(nn.Linear(6, 5)), "mixture-of-routers", rank=2, options=options).num_parameters()
    114
    """

    lr = 0.0005

    def __init__(self, site: Site, experts: int = 4, top: int = 2, routers: int = 3, balance: float = 0.01) -> None:
        super().__init__(site)
        if min(experts, top, routers) < 1 or top > experts:
            raise UsageError(f"experts {experts}, routers {routers} and top {top} must be from 1 up, top up to experts")
        self.experts, self.top, self.balance = experts, top, balance
        bound, like = self.in_features**-0.5, site.like

        def draw(purpose: str, *shape: int) -> nn.Parameter:
            values = torch.empty(*shape, self.in_features).uniform_(-bound, bound, generator=site.generator(purpose))
            return nn.Parameter(values.to(**like))

        self.A, self.sub_routers = draw("A", experts, site.rank), draw("routers", routers, experts)
        self.B = nn.Parameter(torch.zeros(experts, self.out_features, site.rank, **like))
        self.main_router = nn.Parameter(torch.zeros(routers, self.in_features, **like))
        self._balance: Tensor | None = None

    def votes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the main router's weights [..., routers] and the experts' scores [..., experts]; each sums to 1."""
        weights = (x @ self.main_router.t().to(x.dtype)).softmax(-1)
        logits = torch.einsum("...i,jei->...je", x, self.sub_routers.to(x.dtype))
        return weights, (weights.unsqueeze(-1) * logits.softmax(-1)).sum(-2)

    def update(self, x: Tensor, base: BaseLinear, output: Tensor) -> Tensor:
        z = self.prepare_input(x)
        _, scores = self.votes(z)
        best = scores.topk(self.top, dim=-1)
        gates = torch.zeros_like(scores).scatter(-1, best.indices, best.values / best.values.sum(-1, keepdim=True))
        if self.training:
            share = (gates > 0).to(scores.dtype).flatten(0, -2).mean(0) / self.top
            balance = self.experts * (share * scores.flatten(0, -2).mean(0)).sum()
            if not in_backward_pass():  # a checkpointed block that runs again has counted its balance already
                self._balance = balance
        inner = torch.einsum("...i,eri->...er", z, self.A.to(z.dtype)) * gates.unsqueeze(-1)
        return self.scaling * torch.einsum("...er,eor->...o", inner, self.B.to(z.dtype))

    def penalty(self) -> Tensor | None:
        """Return ``balance`` times Switch's balance of the last forward pass, once.

        Raises:
            UsageError: where gradients are asked for, and that pass ran without them.
        """
        value, self._balance = self._balance, None
        trained = self.main_router.requires_grad or self.sub_routers.requires_grad
        if value is not None and self.balance and trained and torch.is_grad_enabled() and not value.requires_grad:
            raise UsageError(
                "mixture-of-routers has lost the gradient of its balance: the forward pass ran without gradients, as "
                "under reentrant checkpointing; use use_reentrant=False "
                '(gradient_checkpointing_kwargs={"use_reentrant": False}), or balance=0'
            )
        return None if value is None or not self.balance else self.balance * value

    def parameter_count(self) -> int:
        return sum(p.numel() for p in (self.A, self.B, self.sub_routers, self.main_router))

    def rank_bound(self) -> int:
        return min(self.experts * self.rank, self.in_features, self.out_features)
