r"""LoRMA: W is multiplied from the left by a matrix of few numbers.

    plus          W + dW = (I + s B A) W              A [r, out],  B [out, r]
    permutation   W + dW = (I + s (P(B A) - P(B0 A0))) W

P shifts row i of a square matrix i places to the right, which gives B A full rank (rank inflation). Both are
reordered so that no [out, out] matrix is formed: B (A (W x)), and P(B A) h = sum_k B_k * correlate(A_k, h) with
correlate(a, h)_i = sum_j a_j h_(i + j mod out). It needs W's output alone, not W. Zero start: A as LoRA's;
B = 0 in the plus kind; in the permutation kind B random and A0, B0 its frozen start, drawn again from the seed.
Trained values: 2 r out. Rank of dW: min(r, in, out), in the permutation kind min(in, out).

Bihany et al., LoRMA: Low-Rank Multiplicative Adaptation for LLMs, 2025, arXiv:2506.07621.

*Deviations*: the paper's permutation kind starts at the identity by choosing B and A so that P(B A) = I; here
any start is taken out, so that the layer begins exactly at W. Its additive kind is ``plus``.
"""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.errors import unknown_name
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.forms.basis import draw_uniform
from lorank.lowrank.forms.form import Form, Site, form
from lorank.lowrank.linalg import widen, working_dtype
from lorank.lowrank.product import low_rank_linear

KINDS = ("plus", "permutation")


@form("lorma")
@catalogued("lorma", area="adapters.form", title="LoRMA: Low-Rank Multiplicative Adaptation for LLMs")
class LoRMA(Form):
    """A multiplied update.

    Args:
        site: where.
        kind: ``plus`` or ``permutation``.

    >>> from lorank import lowrank
    >>> lowrank.attach(nn.Sequential(nn.Linear(3, 2)), "lorma", rank=1).num_parameters()
    4
    """

    lr = 0.001

    def __init__(self, site: Site, kind: str = "plus") -> None:
        super().__init__(site)
        if kind not in KINDS:
            raise unknown_name("kind of LoRMA", kind, KINDS)
        self.inflated = kind == "permutation"
        side, r = self.out_features, site.rank
        A = draw_uniform((r, side), site.generator("A")).to(site.device, site.dtype)
        B = draw_uniform((side, r), site.generator("B")) if self.inflated else torch.zeros(side, r)
        B = B.to(site.device, site.dtype)
        self.A, self.B = nn.Parameter(A), nn.Parameter(B)
        if self.inflated:
            self.register_buffer("A0", A.clone(), persistent=False)
            self.register_buffer("B0", B.clone(), persistent=False)

    @classmethod
    def build(cls, sites: Sequence[Site], kind: str = "plus") -> list[Self]:
        return [cls(site, kind) for site in sites]

    def forward(self, x: Tensor, base: BaseLinear) -> Tensor:
        if self.inflated or not base.plain or (self.training and self.dropout):
            return super().forward(x, base)
        A = self.A @ base.weight.to(self.A.dtype)
        return low_rank_linear(x, base.weight, base.bias, A, self.B, self.scaling)

    def update(self, x: Tensor, base: BaseLinear, output: Tensor) -> Tensor:
        h = self.prepare_input(output if base.bias is None else output - base.bias)
        if self.inflated:
            return self.scaling * self._inflate(h)
        return self.scaling * ((h @ self.A.t().to(h.dtype)) @ self.B.t().to(h.dtype))

    def _inflate(self, h: Tensor) -> Tensor:
        """(P(B A) - P(B0 A0)) h for ``h`` [..., out]."""
        if not h.numel() or not self.rank:
            return h * self.A.sum() * self.B.sum()
        dtype = working_dtype(self.A)  # transforms take no half precision
        with torch.autocast(h.device.type, enabled=False):
            waves = torch.fft.rfft(h.to(dtype)).unsqueeze(-2)

            def product(A: Tensor, B: Tensor) -> Tensor:
                correlated = torch.fft.irfft(waves * torch.fft.rfft(A.to(dtype)).conj(), n=self.out_features)
                return (correlated * B.t().to(dtype)).sum(-2)

            return product(self.A, self.B) - product(self.A0, self.B0)

    def write_out(self, base: BaseLinear) -> Tensor:
        factor = self._factor()
        return factor @ base.weight.to(factor.dtype)

    @torch.no_grad()
    def factor(self) -> Tensor:
        """Return what W is multiplied by, less I: [out, out], for merging."""
        return self._factor()

    def _factor(self) -> Tensor:
        A, B = widen(self.A, self.B)
        if not self.inflated:
            return self.scaling * (B @ A)
        A0, B0 = widen(self.A0, self.B0)
        return self.scaling * (inflate(B @ A) - inflate(B0 @ A0))

    @torch.no_grad()
    def delta(self, weight: Tensor) -> Tensor:
        factor = self.factor()
        return factor @ weight.to(factor.dtype)

    def parameter_count(self) -> int:
        return 2 * self.rank * self.out_features

    def rank_bound(self) -> int:
        most = min(self.in_features, self.out_features)
        return most * (self.rank > 0) if self.inflated else min(self.rank, most)


def inflate(matrix: Tensor) -> Tensor:
    """Shift row i of ``matrix`` [m, m] i places to the right, around.

    >>> inflate(torch.tensor([[1, 2], [1, 2]])).tolist()
    [[1, 2], [2, 1]]
    """
    steps = torch.arange(len(matrix), device=matrix.device)
    return matrix.gather(1, (steps - steps.unsqueeze(1)) % max(len(matrix), 1))
