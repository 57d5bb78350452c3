r"""GraLoRA: W in k x k blocks, each with a LoRA of its own of rank r / k.

    dW[i, j] = s B_ij A_ij,    A_ij [r/k, in/k],  B_ij [out/k, r/k],    i, j = 1..k

Stored as A [k, in/k, r] (block column j; its r columns are k groups, one a block row) and B [k, r, out/k].
Zero start: A as LoRA's on in/k inputs, B = 0. A block's gradient depends on its own inputs alone. Trained
values: r (in + out), as LoRA. Rank of dW: min(k r, in, out). k = 1 is LoRA.

Up to k r = 32 the blocks are laid out as one LoRA of that rank, padded by zeros: thin products with them cost less than
the blocks' own, whose parts are put in order in passes over the output.

Jung et al., GraLoRA: Granular Low-Rank Adaptation for Parameter-Efficient Fine-Tuning, 2025, arXiv:2505.20355.

*Deviations*: the paper's hybrid with a plain LoRA is left out; attach a second adapter for it.
"""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.forms.form import Factors, Form, Site, form
from lorank.lowrank.linalg import widen
from lorank.lowrank.product import WIDE, low_rank_linear


@form("gralora")
@catalogued(
    "gralora",
    area="adapters.form",
    title="GraLoRA: Granular Low-Rank Adaptation for Parameter-Efficient Fine-Tuning",
)
class GraLoRA(Form):
    """A grid of small LoRAs.

    Args:
        site: where.
        blocks: k; it must divide r, in and out. None takes 2 where that does, else 1.

    >>> from lorank import lowrank
    >>> adapter = lowrank.attach(nn.Sequential(nn.Linear(4, 6)), "gralora", rank=2)
    >>> form = adapter.forms["0"]; form.blocks, form.parameter_count(), form.rank_bound()
    (2, 20, 4)
    """

    lr = 0.001

    def __init__(self, site: Site, blocks: int | None = None) -> None:
        super().__init__(site)
        sizes = (site.rank, self.in_features, self.out_features)
        k = blocks if blocks is not None else (1 if any(size % 2 for size in sizes) else 2)
        if k < 1 or any(size % k for size in sizes):
            raise UsageError(f"{k} blocks do not divide rank {sizes[0]}, in {sizes[1]}, out {sizes[2]} of {site.path}")
        self.blocks = k
        bound = (self.in_features // k) ** -0.5
        A = torch.empty(k, self.in_features // k, site.rank).uniform_(-bound, bound, generator=site.generator("A"))
        self.A = nn.Parameter(A.to(site.device, site.dtype))
        B = torch.zeros(k, site.rank, self.out_features // k, device=site.device, dtype=site.dtype)
        self.B = nn.Parameter(B)

    @classmethod
    def build(cls, sites: Sequence[Site], blocks: int | None = None) -> list[Self]:  # type: ignore[override]
        return [cls(site, blocks) for site in sites]

    def forward(self, x: Tensor, base: BaseLinear) -> Tensor:
        if not base.plain or self.blocks * self.rank > WIDE:
            return super().forward(x, base)
        A, B = self._wide_A(), self._wide_B()
        return low_rank_linear(x, base.weight, base.bias, A, B, self.scaling, dropped=self.drop_inputs(x))

    def update(self, x: Tensor, base: BaseLinear, output: Tensor) -> Tensor:
        k = self.blocks
        z = self.prepare_input(x)
        A, B = self.A.to(z.dtype), self.B.to(z.dtype)
        columns = z.reshape(-1, k, self.in_features // k).transpose(0, 1)
        inner = torch.bmm(columns, A).view(k, -1, k, self.rank // k) if z.numel() and self.rank else None
        if inner is None:
            return self.scaling * (z @ self._wide_A().t().to(z.dtype)) @ self._wide_B().t().to(z.dtype)
        rows = inner.permute(2, 1, 0, 3).reshape(k, -1, self.rank)
        y = torch.bmm(rows, B).transpose(0, 1)
        return self.scaling * y.reshape(*z.shape[:-1], self.out_features)

    def _wide_A(self) -> Tensor:
        """A as the rows [k r, in] of a LoRA, ordered by block column, block row, rank."""
        blocks: Tensor = torch.block_diag(*(block.t() for block in self.A))
        return blocks

    def _wide_B(self) -> Tensor:
        """B as the columns [out, k r] of a LoRA in the same order."""
        k = self.blocks
        groups = self.B.view(k, k, self.rank // k, self.out_features // k)
        columns = [torch.block_diag(*(groups[i, j].t() for i in range(k))) for j in range(k)]
        return torch.cat(columns, dim=1)

    def write_out(self, base: BaseLinear) -> Tensor:
        return self.scaling * (self._wide_B() @ self._wide_A())

    @torch.no_grad()
    def delta(self, weight: Tensor) -> Tensor:
        A, B = widen(self._wide_A(), self._wide_B())
        return self.scaling * (B @ A)

    @torch.no_grad()
    def as_lora(self) -> Factors | None:
        return Factors(self._wide_A(), self._wide_B(), self.scaling)

    def parameter_count(self) -> int:
        return self.rank * (self.in_features + self.out_features)

    def rank_bound(self) -> int:
        return min(self.blocks * self.rank, self.in_features, self.out_features)
