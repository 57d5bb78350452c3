r"""Adafactor's factored second moment on the whole gradient, and a first moment in the subspace.

    r_i, c_j: running means of the squares of row i and column j, decay 1 - t^-0.8
    U = G / sqrt(r c^T / mean(r)),   U <- U / max(1, rms(U)),   M <- b1 M + (1 - b1) P^T U,   N = M

The second moment costs a value for each row and column, so it needs no projection. A vector keeps its whole square.

Shazeer, Stern, Adafactor: Adaptive Learning Rates with Sublinear Memory Cost, ICML 2018, arXiv:1804.04235.

*Deviations*: no relative step sizes, the rate is the run's. GaLore's own variant factors the squares of R.
"""

import torch
from torch import Tensor

from lorank.lowrank.projected.inner.inner import INNERS, Group, Inner
from lorank.lowrank.projected.projectors.projector import State
from lorank.lowrank.projected.registry import entry

TINY = 1e-30


@entry(INNERS, "adafactor")
class Adafactor(Inner):
    """A first moment, and squares by row and column.

    State: ``rank * long + long + short`` values a matrix.
    """

    moments = ("exp_avg",)

    def prepare(self, state: State, gradient: Tensor, group: Group) -> Tensor:
        decay = 1 - (float(state["age"]) if "age" in state else 1.0) ** -0.8
        state["age"] = torch.tensor((float(state["age"]) if "age" in state else 1.0) + 1)
        square = gradient.square().add_(TINY)
        if gradient.dim() < 2:
            whole = self.read(state, "square", gradient, gradient.dtype).lerp_(square, 1 - decay)
            return _clip(gradient / whole.sqrt())
        rows = self.read(state, "square_rows", square[:, 0], gradient.dtype).lerp_(square.mean(1), 1 - decay)
        columns = self.read(state, "square_columns", square[0], gradient.dtype).lerp_(square.mean(0), 1 - decay)
        return _clip(gradient * (rows / rows.mean()).rsqrt()[:, None] * columns.rsqrt())

    def direction(self, state: State, reduced: Tensor, group: Group, dtype: torch.dtype) -> Tensor:
        first = self.read(state, "exp_avg", reduced, dtype).lerp_(reduced, 1 - group["betas"][0])
        self.write(state, "exp_avg", first)
        return first.clone()

    def rotate(self, state: State, change: Tensor) -> None:
        if "exp_avg" in state:
            state["exp_avg"] = (change @ state["exp_avg"].to(change.dtype)).to(state["exp_avg"].dtype)


def _clip(update: Tensor) -> Tensor:
    return update / update.square().mean().sqrt().clamp_min(1.0)
