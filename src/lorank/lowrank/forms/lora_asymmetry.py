r"""Asymmetric LoRA: A is a random matrix with orthonormal rows, only B is trained.

    dW = s B A,    A [k, in] with A A^T = I frozen, B [out, k] trained,    k = min(r, in)

Zero start: B = 0. A is drawn from the seed and never saved. For the linear least-squares problem with a target
T and white inputs, the best B is (T - W) A^T / s: the part of T - W that lies in A's row space. Trained
values: k out, so at LoRA's budget the rank can be r (in + out) / out. Rank of dW: min(k, out).

Zhu et al., Asymmetry in Low-Rank Adapters of Foundation Models, 2024, arXiv:2402.16842.
"""

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.lowrank.forms.factored import Factored
from lorank.lowrank.forms.form import Site, form


@form("lora-asymmetry")
@catalogued("lora-asymmetry", area="adapters.form", title="Asymmetry in Low-Rank Adapters of Foundation Models")
class AsymmetricLoRA(Factored):
    """B trained on a random orthonormal A.

    >>> from torch import nn; from lorank import lowrank
    >>> lowrank.attach(nn.Sequential(nn.Linear(3, 2)), "lora-asymmetry", rank=2).num_parameters()
    4
    """

    A: Tensor
    lr = 0.005

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        k = min(site.rank, self.in_features)
        draw = torch.randn(self.in_features, k, generator=site.generator("A"), dtype=torch.float64)
        A = torch.linalg.qr(draw).Q.t().contiguous()
        self.register_buffer("A", A.to(site.device, site.dtype), persistent=False)
        self.B = nn.Parameter(torch.zeros(self.out_features, k, device=site.device, dtype=site.dtype))

    def pair(self) -> tuple[Tensor, Tensor]:
        return self.A, self.B

    def parameter_count(self) -> int:
        return self.B.numel()

    def rank_bound(self) -> int:
        return min(self.rank, self.in_features, self.out_features)
