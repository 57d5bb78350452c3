r"""LoRS: a LoRA that keeps the zeros of a sparse weight.

    W + dW = W + s (B A) * M,    M = [W != 0]

The mask is read off W wherever it is needed, and neither it nor B A is kept: with G = dy^T x * M,

    dx = dy (W + s (B A) * M)    dA = s B^T G    dB = s G A^T

Zero start: A as LoRA's, B = 0. Trained values: r (in + out). Rank of dW: min(r, in, out) where W has no zero;
a mask can raise it to min(in, out).

Hu et al., LoRS: Efficient Low-Rank Adaptation for Sparse Large Language Model, 2025, arXiv:2501.08582.

*Deviations*: none in the update. The paper's start from gradients is the start ``lors``
(``attach(model, "lors", start="lors", statistics=...)``, or ``--start lors`` in training); without it A is random.
"""

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.lowrank.forms.basis import draw_uniform
from lorank.lowrank.forms.dense import Dense
from lorank.lowrank.forms.form import Site, form


@form("lors")
@catalogued(
    "lors",
    area="adapters.form",
    title="LoRS: Efficient Low-Rank Adaptation for Sparse Large Language Model",
)
class LoRS(Dense):
    """A masked LoRA.

    >>> from lorank import lowrank
    >>> lowrank.attach(nn.Sequential(nn.Linear(3, 2)), "lors", rank=1).num_parameters()
    5
    """

    lr = 0.001
    needs_weight = True

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        A = draw_uniform((site.rank, self.in_features), site.generator("A"))
        self.A = nn.Parameter(A.to(site.device, site.dtype))
        self.B = nn.Parameter(torch.zeros(self.out_features, site.rank, device=site.device, dtype=site.dtype))
        self.dense = bool((site.base.weight != 0).all())

    def matrix(self, weight: Tensor | None) -> Tensor:
        assert weight is not None
        return self.scaling * (self.B @ self.A) * (weight != 0)

    def parameter_count(self) -> int:
        return self.rank * (self.in_features + self.out_features)

    def rank_bound(self) -> int:
        most = min(self.in_features, self.out_features)
        return min(self.rank, most) if self.dense or not self.rank else most
