r"""BASE: LoRA experts that each get the same number of tokens in training, without a balancing loss.

    e(x) = the expert that the assignment of largest total affinity w_e . x gives x, all experts equally loaded
           (training), or argmax_e w_e . x (otherwise)
    dW x = s sigmoid(w_e . x) 2 B_e A_e x

A [experts, r, in], B [experts, out, r], w [experts, in]. The gate gives w its gradient. Zero start: B = 0, w = 0 but
for a small draw, so that every gate is about 1. Trained values: experts (r (in + out) + in). One expert is a LoRA:
there is nothing to route, and its gate is 1.

Lewis, Bhosale, Dettmers, Goyal, Zettlemoyer, BASE Layers: Simplifying Training of Large, Sparse Models, 2021,
arXiv:2103.16716.

*Deviations*: the paper's experts are feed-forward blocks spread over devices and its gate is sigmoid alone; here they
are the updates of one layer, and the gate begins at 1. Where tokens do not divide evenly no expert gets more than
their share rounded up.
"""

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.forms.form import Site, form
from lorank.lowrank.routing.assignment import balanced_assignment
from lorank.lowrank.routing.token_routed import TokenRouted


@form("base-layers")
@catalogued("base-layers", area="adapters.moe", title="BASE Layers: Simplifying Training of Large, Sparse Models")
class BaseLayers(TokenRouted):
    """One of ``experts`` LoRAs a token, balanced by assignment in training.

    >>> from lorank import lowrank
    >>> adapter = lowrank.attach(nn.Sequential(nn.Linear(6, 5)), "base-layers", rank=2, options={"experts": 3})
    >>> adapter.num_parameters()
    84
    """

    lr = 0.0005

    def __init__(self, site: Site, experts: int = 4) -> None:
        super().__init__(site)
        if experts < 1:
            raise UsageError(f"experts {experts!r} is not an integer from 1 up")
        self.experts = experts
        bound, like = self.in_features**-0.5, site.like
        A = torch.empty(experts, site.rank, self.in_features).uniform_(-bound, bound, generator=site.generator("A"))
        w = 0.1 * bound * torch.randn(experts, self.in_features, generator=site.generator("centroids"))
        self.A, self.centroids = nn.Parameter(A.to(**like)), nn.Parameter(w.to(**like))
        self.B = nn.Parameter(torch.zeros(experts, self.out_features, site.rank, **like))

    def assign(self, affinity: Tensor) -> Tensor:
        """Return the expert [tokens] of each row of ``affinity`` [tokens, experts]."""
        if self.training:  # whether or not gradients flow: a checkpointed block runs twice and must choose alike
            return balanced_assignment(affinity)
        return affinity.argmax(1)

    def update(self, x: Tensor, base: BaseLinear, output: Tensor) -> Tensor:
        z = self.prepare_input(x)
        tokens = z.reshape(-1, z.shape[-1])
        affinity = tokens @ self.centroids.t().to(z.dtype)
        chosen = nn.functional.one_hot(self.assign(affinity), self.experts).to(z.dtype)
        gates = chosen if self.experts == 1 else 2 * affinity.sigmoid() * chosen
        inner = torch.einsum("ti,eri->ter", tokens, self.A.to(z.dtype)) * gates.unsqueeze(-1)
        y = self.scaling * torch.einsum("ter,eor->to", inner, self.B.to(z.dtype))
        return y.view(*z.shape[:-1], self.out_features)

    def parameter_count(self) -> int:
        return self.A.numel() + self.B.numel() + self.centroids.numel()

    def rank_bound(self) -> int:
        return min(self.experts * self.rank, self.in_features, self.out_features)
