r"""A trained core between frozen orthonormal factors: the form of LoRA-SB.

    dW = B R A,    A [k, in] with A A^T = I,  B [out, k] with B^T B = I,  R [k, k] trained,    k = min(r, in, out)

There is no scale: with orthonormal factors and s = 1 the gradient of R is the best one for the full weight's.
Zero start: A and B random, R = 0; the start ``lora-sb`` fills all three, so A and B are saved. Trained values:
k^2. Rank of dW: k.

Ponkshe et al., Initialization using Update Approximation is a Silver Bullet for Extremely Efficient Low-Rank
Fine-Tuning, 2024, arXiv:2411.19557.
"""

import torch
from torch import Tensor, nn

from lorank.lowrank.forms.factored import Factored
from lorank.lowrank.forms.form import Site, form


@form("lora-core")
class CoreLoRA(Factored):
    """A trained square between orthonormal factors.

    >>> from lorank import lowrank
    >>> lowrank.attach(nn.Sequential(nn.Linear(30, 20)), "lora-core", rank=3).num_parameters()
    9
    """

    A: Tensor
    B: Tensor
    lr = 0.002
    usual_rank = 64

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.scaling = 1.0
        k = min(site.rank, self.in_features, self.out_features)

        def orthonormal(rows: int, purpose: str) -> Tensor:
            draw = torch.randn(rows, k, generator=site.generator(purpose), dtype=torch.float64)
            basis: Tensor = torch.linalg.qr(draw).Q
            return basis.to(site.device, site.dtype)

        self.R = nn.Parameter(torch.zeros(k, k, device=site.device, dtype=site.dtype))
        self.register_buffer("A", orthonormal(self.in_features, "A").t().contiguous())
        self.register_buffer("B", orthonormal(self.out_features, "B"))

    def pair(self) -> tuple[Tensor, Tensor]:
        return self.A, self.B @ self.R

    def parameter_count(self) -> int:
        return self.R.numel()

    def rank_bound(self) -> int:
        return len(self.R)
