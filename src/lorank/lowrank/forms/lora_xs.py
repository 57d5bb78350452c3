r"""LoRA-XS: a trained r x r matrix between the frozen singular vectors of W.

    dW = s B R A,    A = V_r^T [r, in],  B = U_r diag(sigma_r) [out, r] of W's top r triplets,  R [r, r] trained

Zero start: R = 0. A and B are computed from W again wherever the adapter is loaded, and never saved. A rank
above min(in, out) is that minimum. Trained values: r^2. Rank of dW: r.

Balazy et al., LoRA-XS: Low-Rank Adaptation with Extremely Small Number of Parameters, 2024, arXiv:2405.17604.

*Deviations*: the paper draws R from N(0, 1e-5), which moves the output by as little; 0 moves nothing and has
a gradient too.
"""

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.lowrank.forms.factored import Factored
from lorank.lowrank.forms.form import Site, form
from lorank.lowrank.forms.spectral import principal_triplets


@form("lora-xs")
@catalogued(
    "lora-xs",
    area="adapters.form",
    title="LoRA-XS: Low-Rank Adaptation with Extremely Small Number of Parameters",
)
class LoRAXS(Factored):
    """A small trained matrix in the principal subspaces of W.

    >>> from torch import nn; from lorank import lowrank
    >>> lowrank.attach(nn.Sequential(nn.Linear(3, 2)), "lora-xs", rank=2).num_parameters()
    4
    """

    A: Tensor
    B: Tensor
    lr = 0.002
    usual_rank = 64

    derived = ("A", "B")

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        U, sigma, Vh = principal_triplets(site, site.rank)
        self.register_buffer("A", Vh, persistent=False)
        self.register_buffer("B", U * sigma, persistent=False)
        k = len(sigma)
        self.R = nn.Parameter(torch.zeros(k, k, dtype=site.dtype, device=site.device))

    def pair(self) -> tuple[Tensor, Tensor]:
        return self.A, self.B @ self.R

    def parameter_count(self) -> int:
        return self.R.numel()

    def rank_bound(self) -> int:
        return len(self.R)
