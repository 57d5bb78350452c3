r"""Bone: every b x b block of W is multiplied from the right by I + D and shifted by D.

    dW[i, j] = s (W[i, j] D_i + D_i),    D_i [b, b] trained, one a group i of b outputs

The published method in its "bat" form, whose update uses the original weights; without the product it is
``miss``. Zero start: D = 0. b is the largest common divisor of in and out that is at most r. Trained values:
b out. Rank of dW: min(in, out) in general. It needs W itself: D_i acts between W's columns and x, so neither
W's output nor thin factors give it, and dW is written as a matrix.

Kang and Yin, Bone: Block Affine Transformation as Parameter Efficient Fine-tuning Methods for Large Language
Models, 2024, arXiv:2409.15371.

*Deviations*: s is 1 unless alpha is given; the paper has none. Where r does not divide a layer's sides, the
published code fails and here b is smaller.
"""

from math import gcd

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.lowrank.forms.dense import Dense
from lorank.lowrank.forms.form import Site, form


def block_side(in_features: int, out_features: int, limit: int) -> int:
    """Return the largest common divisor of both sides that is at most ``limit``; 0 for limit 0.

    >>> block_side(12, 18, 5)
    3
    """
    common = gcd(in_features, out_features)
    return max((side for side in range(1, min(limit, common) + 1) if common % side == 0), default=0)


@form("bone")
@catalogued(
    "bone",
    area="adapters.form",
    title="Bone: Block Affine Transformation as Parameter Efficient Fine-tuning Methods for Large Language Models",
)
class Bone(Dense):
    """Blocks of W multiplied and shifted by trained matrices.

    >>> from lorank import lowrank
    >>> lowrank.attach(nn.Sequential(nn.Linear(4, 6)), "bone", rank=2).num_parameters()
    12
    """

    lr = 0.001
    needs_weight = True

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.side = block_side(self.in_features, self.out_features, site.rank)
        groups = self.out_features // self.side if self.side else 0
        self.D = nn.Parameter(torch.zeros(groups, self.side, self.side, device=site.device, dtype=site.dtype))

    def matrix(self, weight: Tensor | None) -> Tensor:
        assert weight is not None
        weight = weight.to(self.D.dtype)
        if not self.side:
            return torch.zeros_like(weight)
        groups, b = len(self.D), self.side
        product = torch.bmm(weight.reshape(groups, -1, b), self.D).view(groups, b, -1, b)
        return self.scaling * (product + self.D.unsqueeze(2)).reshape(weight.shape)

    def parameter_count(self) -> int:
        return self.side * self.out_features

    def rank_bound(self) -> int:
        return min(self.in_features, self.out_features) if self.side else 0
