r"""LoSiA: a sub-matrix of W between the inputs and outputs that matter most is trained.

    dW[rows, columns] = P,    P [p out, p in] trained,    p = min(sqrt(r (in + out) / (in out)), 1)

so that P has as many values as a LoRA of rank r. Rows and columns are chosen greedily by an importance of W's
entries: |W| at the zero start, |(W + dW) * G| with the gradient G where it moves. Only the sub-matrix's own gradient
dy[rows]^T x[columns] is formed. It moves ``relocations`` times in training, at equal distances, the layers in turn
(``advance``); G is formed in the one step before. What P had learned before a relocation is put aside and stays in
dW. The choice is saved. Zero start: P = 0. Trained values: P's. Rank of dW: its smaller side, times the relocations.

Wang et al., LoSiA: Efficient High-Rank Fine-Tuning via Subnet Localization and Optimization, 2025,
arXiv:2507.04487.

*Deviations*: the paper's importance is smoothed over steps with its uncertainty; here it is one step's, so that a
run that is taken up moves alike. The optimizer's moments of P stay when P moves. The forward pass is that of the
paper's Pro variant.
"""

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.forms.form import Form, Site, form
from lorank.lowrank.linalg import working_dtype
from lorank.lowrank.replicas import is_distributed, sum_over_replicas


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


def relocation_steps(relocations: int, phase: float, total: int) -> list[int]:
    """Return after which of ``total`` steps a layer's sub-matrix moves.

    >>> relocation_steps(3, 0.5, 100), relocation_steps(1, 0.0, 8)
    ([25, 50, 75], [2])
    """
    return [min(max(round(total * (j + phase - 0.5) / (relocations + 1)), 1), total) for j in range(1, relocations + 1)]


class _Watched(torch.autograd.Function):
    """y itself; its backward pass shows the form the whole gradient dy^T z."""

    @staticmethod
    def forward(ctx: FunctionCtx, y: Tensor, z: Tensor, form: "LoSiA", base: BaseLinear) -> Tensor:
        ctx.save_for_backward(z)
        ctx.form, ctx.base = form, base
        return y.view_as(y)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, dy: Tensor) -> tuple[Tensor | None, ...]:
        (z,) = ctx.saved_tensors
        gradient = dy.reshape(-1, dy.shape[-1]).t() @ z.reshape(-1, z.shape[-1])
        ctx.form.watch(gradient.to(ctx.form.P.dtype), ctx.base.weight)
        return dy, None, None, None


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
        relocations: how many times the sub-matrix moves, from 0 up.
        phase: when this layer moves within the interval, in [0, 1); ``build`` spreads the layers.

    >>> from lorank import lowrank
    >>> adapter = lowrank.attach(nn.Sequential(nn.Linear(8, 12)), "losia", options={"share": 0.5})
    >>> adapter.num_parameters()
    24
    """

    lr = 0.001
    unattended_effect = "keeps the sub-matrix that it chose first"
    earlier_options: ClassVar[Mapping[str, object]] = {"relocations": 0}

    def __init__(self, site: Site, share: float | None = None, relocations: int = 3, phase: float = 0.5) -> None:
        super().__init__(site)
        if (share is not None and not 0 < share <= 1) or relocations < 0:
            raise UsageError(f"share {share!r} is not in (0, 1], or relocations {relocations!r} not from 0 up")
        n, m = self.in_features, self.out_features
        p = share or min(sqrt(site.rank * (n + m) / (n * m)), 1.0)
        rows, columns = (max(int(p * side), 1) if site.rank else 0 for side in (m, n))
        self.scaling, self.relocations, self.phase = 1.0, relocations, phase
        self.watching = False
        self._seen: Tensor | None = None
        self.P = nn.Parameter(torch.zeros(rows, columns, device=site.device, dtype=site.dtype))
        chosen = subnet(site.base.weight.detach().abs().to(site.dtype), rows, columns)
        self.register_buffer("rows", chosen[0])
        self.register_buffer("columns", chosen[1])
        self.register_buffer("left_rows", chosen[0].new_zeros(relocations, rows))
        self.register_buffer("left_columns", chosen[1].new_zeros(relocations, columns))
        self.register_buffer("learned", self.P.detach().new_zeros(relocations, rows, columns))

    @classmethod
    def build(cls, sites: Sequence[Site], share: float | None = None, relocations: int = 3) -> list[Self]:
        return [cls(site, share, relocations, index / len(sites)) for index, site in enumerate(sites)]

    @property
    def scheduled(self) -> bool:
        return self.relocations > 0

    def follow(self, step: int, total: int) -> None:
        moments = relocation_steps(self.relocations, self.phase, total)
        if step in moments and (self._seen is not None or is_distributed()):
            nothing = self.learned.new_zeros(self.out_features, self.in_features)
            seen = sum_over_replicas(nothing if self._seen is None else self._seen)
            if seen.any():
                self.relocate(seen)
        self.watching, self._seen = step + 1 in moments, None

    @torch.no_grad()
    def watch(self, gradient: Tensor, weight: Tensor) -> None:
        """Take in a gradient [out, in] of W + dW; those of one step add up."""
        importance = (gradient * (weight.to(gradient.dtype) + self.delta(weight))).abs()
        self._seen = importance if self._seen is None else self._seen + importance

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
        z = self.prepare_input(x)
        y = z.new_zeros(*z.shape[:-1], self.out_features)
        for rows, columns, P in self._parts():
            y = y.index_add(-1, rows, (z[..., columns] @ P.t().to(z.dtype)).to(y.dtype))
        return _Watched.apply(y, z, self, base) if self.watching and self.training else y

    def write_out(self, base: BaseLinear) -> Tensor:
        dense = self.P.new_zeros(self.out_features, self.in_features)
        for rows, columns, P in self._parts():
            dense = dense.index_put((rows.unsqueeze(1), columns), P, accumulate=True)
        if self.watching and self.training and dense.requires_grad:
            dense.register_hook(lambda gradient: self.watch(gradient, base.weight))
        return dense

    @torch.no_grad()
    def delta(self, weight: Tensor) -> Tensor:
        dense = self.P.new_zeros(self.out_features, self.in_features, dtype=working_dtype(self.P))
        for rows, columns, P in self._parts():
            dense[rows.unsqueeze(1), columns] += P.to(dense.dtype)
        return dense

    def parameter_count(self) -> int:
        return self.P.numel()

    def rank_bound(self) -> int:
        used = 1 + int(self.learned.flatten(1).any(1).sum())
        return min(used * min(self.P.shape), self.in_features, self.out_features)
