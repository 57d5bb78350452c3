r"""SVFit: only the top singular values of W are trained.

    W = U diag(sigma) V^T    dW = U_r diag(delta) V_r^T,    delta [r] trained: the change of the top r values

Zero start: delta = 0. The singular vectors are frozen, computed from W again wherever the adapter is loaded,
and never saved; there is no scale. Trained values: min(r, in, out). Rank of dW: the same.

Sun et al., SVFit: Parameter-Efficient Fine-Tuning of Large Pre-Trained Models Using Singular Values, 2024,
arXiv:2409.05926.

*Deviations*: the paper trains sigma_r itself; its change has the same gradients, and weight decay then pulls
towards W's own values.
"""

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.lowrank.forms.factored import Factored
from lorank.lowrank.forms.form import Site, form
from lorank.lowrank.forms.spectral import principal_triplets


@form("svfit")
@catalogued(
    "svfit",
    area="adapters.form",
    title="SVFit: Parameter-Efficient Fine-Tuning of Large Pre-Trained Models Using Singular Values",
)
class SVFit(Factored):
    """Trained singular values.

    >>> from lorank import lowrank
    >>> lowrank.attach(nn.Sequential(nn.Linear(30, 20)), "svfit", rank=8).num_parameters()
    8
    """

    A: Tensor
    B: Tensor
    lr = 0.05
    usual_rank = 256

    derived = ("A", "B")

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.scaling = 1.0
        U, sigma, Vh = principal_triplets(site, site.rank)
        self.register_buffer("A", Vh, persistent=False)
        self.register_buffer("B", U, persistent=False)
        self.shift = nn.Parameter(torch.zeros_like(sigma))

    def pair(self) -> tuple[Tensor, Tensor]:
        return self.A, self.B * self.shift

    def parameter_count(self) -> int:
        return len(self.shift)

    def rank_bound(self) -> int:
        return len(self.shift)
