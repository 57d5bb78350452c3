r"""LoSiA: a sub-matrix of W between the inputs and outputs that matter most is trained.

    dW[rows, columns] = P,    P [p out, p in] trained,    p = min(sqrt(r (in + out) / (in out)), 1)

so that P has as many values as a LoRA of rank r. Rows and columns are chosen greedily by an importance of W's
entries: |W| at the zero start, |W * G| with gradients G (``relocate``). Only the sub-matrix's own gradient
dy[rows]^T x[columns] is formed. What P had learned before a relocation is put aside and stays in dW. The
choice is saved. Zero start: P = 0. Trained values: P's. Rank of dW: its smaller side, times the relocations.

Wang et al., LoSiA: Efficient High-Rank Fine-Tuning via Subnet Localization and Optimization, 2025,
arXiv:2507.04487.

*Deviations*: the paper's importance is smoothed over steps with its uncertainty and layers take turns; both
belong to whoever calls ``relocate``. The forward pass is that of the paper's Pro variant.
"""

from collections.abc import Sequence
from math import sqrt
from typing import Self

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.forms.form import Form, Site, form


def subnet(importance: Tensor, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Return rows and columns of ``importance`` [out, in] with a large sum, the better of both greedy orders.

    >>> [part.tolist() for part in subnet(torch.tensor([[9.0, 0.0, 1.0], [0.0, 8.0, 8.0]]), 1, 2)]
    [[1], [1, 2]]
    """

    def top(values: Tensor, count: int) -> Tensor:
        return values.topk(count).indices.sort().values

    first_rows = top(importance.sum(1), rows)
    one = first_rows, top(importance[first_rows].sum(0), columns)
    first_columns = top(importance.sum(0), columns)
    two = top(importance[:, first_columns].sum(1), rows), first_columns
    return max(one, two, key=lambda choice: importance[choice[0]][:, choice[1]].sum().item())


@form("losia")
@catalogued(
    "losia",
    area="adapters.form",
    title="LoSiA: Efficient High-Rank Fine-Tuning via Subnet Localization and Optimization",
)
class LoSiA(Form):
    """A trained sub-matrix.

    Args:
        site: where.
        share: p, of the rows and of the columns, in (0, 1]; None takes the formula's.
        relocations: how many times the sub-matrix may move, from 0 up.

    >>> from lorank import lowrank
    >>> adapter = lowrank.attach(nn.Sequential(nn.Linear(8, 12)), "losia", options={"share": 0.5})
    >>> adapter.num_parameters()
    24
    """

    def __init__(self, site: Site, share: float | None = None, relocations: int = 0) -> None:
        super().__init__(site)
        if (share is not None and not 0 < share <= 1) or relocations < 0:
            raise UsageError(f"share {share!r} is not in (0, 1], or relocations {relocations!r} not from 0 up")
        n, m = self.in_features, self.out_features
        p = share or min(sqrt(site.rank * (n + m) / (n * m)), 1.0)
        rows, columns = (max(int(p * side), 1) if site.rank else 0 for side in (m, n))
        self.scaling, self.relocations = 1.0, relocations
        self.P = nn.Parameter(torch.zeros(rows, columns, device=site.device, dtype=site.dtype))
        chosen = subnet(site.base.weight.detach().abs().to(site.dtype), rows, columns)
        self.register_buffer("rows", chosen[0])
        self.register_buffer("columns", chosen[1])
        self.register_buffer("left_rows", chosen[0].new_zeros(relocations, rows))
        self.register_buffer("left_columns", chosen[1].new_zeros(relocations, columns))
        self.register_buffer("learned", self.P.detach().new_zeros(relocations, rows, columns))

    @classmethod
    def build(cls, sites: Sequence[Site], share: float | None = None, relocations: int = 0) -> list[Self]:
        return [cls(site, share, relocations) for site in sites]

    @torch.no_grad()
    def relocate(self, importance: Tensor) -> None:
        """Put P aside and train the sub-matrix that ``importance`` [out, in] favours; UsageError if too often."""
        row = int(self.learned.flatten(1).any(1).sum())
        if row >= self.relocations and self.P.any():
            raise UsageError(f"the sub-matrix has moved {row} times; attach with more relocations")
        if self.P.any():
            self.left_rows[row], self.left_columns[row], self.learned[row] = self.rows, self.columns, self.P
        rows, columns = subnet(importance, *self.P.shape)
        self.rows.copy_(rows)
        self.columns.copy_(columns)
        self.P.zero_()

    def _parts(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        aside = zip(self.left_rows, self.left_columns, self.learned, strict=True)
        return [(self.rows, self.columns, self.P), *aside]

    def update(self, x: Tensor, base: BaseLinear, output: Tensor) -> Tensor:
        z = self.entering(x)
        y = z.new_zeros(*z.shape[:-1], self.out_features)
        for rows, columns, P in self._parts():
            y = y.index_add(-1, rows, (z[..., columns] @ P.t().to(z.dtype)).to(y.dtype))
        return y

    @torch.no_grad()
    def delta(self, weight: Tensor) -> Tensor:
        dense = self.P.new_zeros(self.out_features, self.in_features)
        for rows, columns, P in self._parts():
            dense[rows.unsqueeze(1), columns] += P
        return dense

    def parameter_count(self) -> int:
        return self.P.numel()

    def rank_bound(self) -> int:
        used = 1 + int(self.learned.flatten(1).any(1).sum())
        return min(used * min(self.P.shape), self.in_features, self.out_features)
