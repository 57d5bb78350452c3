r"""C3A: a block-circulant update, applied as circular convolutions.

    (dW x)_i = s / in * sum_j w_ij (*) x_j = s / in * ifft( sum_j fft(w_ij) fft(x_j) )

x_j [b] the j-th block of the input, w [out/b, in/b, b] trained kernels. Zero start: w = 0. Trained values:
in out / b. Rank of dW: min(in, out). b divides in and out; where it is not given it is the smallest such that
has no more values than a LoRA of rank r, or the largest there is.

With fewer rows of x than W has, transforms are cheapest; with more, dW is written as a matrix and added to W
(`dense`), which costs a third of the transforms' time and none of their memory.

Chen et al., Parameter-Efficient Fine-Tuning via Circular Convolution, 2024, arXiv:2407.19342.

*Deviations*: PEFT correlates where the paper convolves (the same kernels read backwards); the factor 1 / in is
its. Transforms run in float32 at least.
"""

from collections.abc import Sequence
from math import gcd
from typing import Self

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.forms.dense import Dense
from lorank.lowrank.forms.form import Form, Site, form
from lorank.lowrank.linalg import working_dtype


@form("c3a")
@catalogued("c3a", area="adapters.form", title="Parameter-Efficient Fine-Tuning via Circular Convolution")
class C3A(Dense):
    """Circular convolutions between blocks.

    Args:
        site: where; its rank sets the number of trained values where ``block`` is None.
        block: b.

    >>> from lorank import lowrank
    >>> form = lowrank.attach(nn.Sequential(nn.Linear(12, 8)), "c3a", rank=2).forms["0"]
    >>> form.block, form.parameter_count()
    (4, 24)
    """

    lr = 0.1

    def __init__(self, site: Site, block: int | None = None) -> None:
        super().__init__(site)
        n, m = self.in_features, self.out_features
        common = gcd(n, m)
        if block is None:
            fitting = (b for b in range(1, common) if common % b == 0 and n * m / b <= site.rank * (n + m))
            block = next(fitting, common)
        elif block < 1 or common % block:
            raise UsageError(f"block {block} does not divide in {n} and out {m} of {site.path}")
        self.block = block
        shape = (m // block, n // block, block) if site.rank else (0, 0, block)
        self.kernel = nn.Parameter(torch.zeros(shape, device=site.device, dtype=site.dtype))

    @classmethod
    def build(cls, sites: Sequence[Site], block: int | None = None) -> list[Self]:  # type: ignore[override]
        return [cls(site, block) for site in sites]

    def forward(self, x: Tensor, base: BaseLinear) -> Tensor:
        many = x.numel() >= self.in_features * min(self.in_features, self.out_features)
        return super().forward(x, base) if many else Form.forward(self, x, base)

    def update(self, x: Tensor, base: BaseLinear, output: Tensor) -> Tensor:
        z = self.prepare_input(x).to(working_dtype(self.kernel))
        if not self.rank or not z.numel():
            return z @ self.matrix(None).t().to(z.dtype)
        with torch.autocast(z.device.type, enabled=False):
            waves = torch.fft.rfft(z.reshape(-1, self.in_features // self.block, self.block))
            kernels = torch.fft.rfft(self.kernel.to(z.dtype))
            mixed = torch.einsum("tjf,ijf->tif", waves, kernels)
            y: Tensor = torch.fft.irfft(mixed, n=self.block).reshape(*z.shape[:-1], self.out_features)
        return float(self.scaling / self.in_features) * y

    def matrix(self, weight: Tensor | None) -> Tensor:
        if not self.rank:
            return self.kernel.new_zeros(self.out_features, self.in_features)
        b = self.block
        turned = torch.cat([self.kernel, self.kernel], -1).flip(-1)
        circulant = turned.unfold(-1, b, 1)[..., :b, :].flip(-2)  # [.., a, c] is kernel[.., (a - c) mod b]
        dense = circulant.permute(0, 2, 1, 3).reshape(self.out_features, self.in_features)
        return self.scaling / self.in_features * dense

    def parameter_count(self) -> int:
        return self.in_features * self.out_features // self.block if self.rank else 0

    def rank_bound(self) -> int:
        return min(self.in_features, self.out_features) if self.rank else 0
