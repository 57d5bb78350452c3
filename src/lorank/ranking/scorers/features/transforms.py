r"""Feature transforms: what a network needs done to raw features, fitted on the training rows alone.

    none                x
    log1p               sign(x) log(1 + |x|)
    standardise         (x - mean) / deviation, statistics of the training rows
    quantile            2 F(x) - 1, F the training rows' distribution function, linear between 101 quantiles
    query-standardise   (x - mean) / deviation over the documents of the list being scored
    query-minmax        (x - min) / (max - min) over the documents of the list being scored

and in chains ``log1p-standardise``, ``log1p-query-standardise``, ``quantile-query-standardise``. A feature that is
constant (in training, or in its list) is 0 after standardising. Where F is steep at a value that many rows share, F
of that value is the middle of its step.

Paper: Z. Qin et al., Are Neural Rankers still Outperformed by Gradient Boosted Decision Trees?, ICLR 2021 (log1p,
and how much transforms matter).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Statistics = dict[str, np.ndarray]
QUANTILES = 101
ROWS_AT_ONCE, COLUMNS_AT_ONCE = 65536, 8


def signed_log1p(rows: np.ndarray) -> np.ndarray:
    """Return sign(x) log(1 + |x|)."""
    return np.asarray(np.sign(rows) * np.log1p(np.abs(rows)))


def _unchanged(rows: np.ndarray) -> np.ndarray:
    return rows


def _no_statistics(rows: np.ndarray) -> Statistics:
    return {}


def _moments(rows: np.ndarray) -> Statistics:
    mean, deviation = rows.mean(0), rows.std(0)
    varies = deviation > 1e-12 * np.maximum(1.0, np.abs(mean))
    return {"mean": mean, "scale": np.divide(1.0, deviation, out=np.zeros_like(deviation), where=varies)}


def _standardise(rows: np.ndarray, statistics: Statistics) -> np.ndarray:
    return (rows - statistics["mean"]) * statistics["scale"]


def _quantiles(rows: np.ndarray) -> Statistics:
    return {"quantiles": np.quantile(rows, np.linspace(0, 1, QUANTILES), axis=0)}


def _shares(rows: np.ndarray, statistics: Statistics) -> np.ndarray:
    share = np.linspace(0, 1, QUANTILES)
    out = np.empty_like(rows)
    for i, marks in enumerate(statistics["quantiles"].T):
        low = np.interp(rows[:, i], marks, share)
        high = 1 - np.interp(-rows[:, i], -marks[::-1], share)
        out[:, i] = low + high - 1
    return out


def _as_is(rows: np.ndarray, statistics: Statistics) -> np.ndarray:
    return rows


def _list_standardised(grid: Tensor, mask: Tensor) -> Tensor:
    there = mask.unsqueeze(2)
    sizes = mask.sum(1).clamp(min=1)[:, None, None]
    mean = torch.where(there, grid, 0.0).sum(1, keepdim=True) / sizes
    centred = torch.where(there, grid - mean, 0.0)
    deviation = (centred.square().sum(1, keepdim=True) / sizes).sqrt()
    varies = deviation > 1e-5 * mean.abs().clamp(min=1e-3)
    return torch.where(varies, centred / torch.where(varies, deviation, 1.0), 0.0)


def _list_minmax(grid: Tensor, mask: Tensor) -> Tensor:
    there = mask.unsqueeze(2)
    low = grid.masked_fill(~there, torch.inf).amin(1, keepdim=True)
    span = grid.masked_fill(~there, -torch.inf).amax(1, keepdim=True) - low
    varies = there & (span > 0)
    return torch.where(varies, (grid - torch.where(varies, low, 0.0)) / torch.where(varies, span, 1.0), 0.0)


@dataclass(frozen=True)
class Transform:
    """A shape for every value, statistics of the training rows, and what is done within a list."""

    shape: Callable[[np.ndarray], np.ndarray] = _unchanged
    observe: Callable[[np.ndarray], Statistics] = _no_statistics
    apply: Callable[[np.ndarray, Statistics], np.ndarray] = _as_is
    within: Callable[[Tensor, Tensor], Tensor] | None = None

    @property
    def learns(self) -> bool:
        """Whether the transform has statistics of the training rows."""
        return self.observe is not _no_statistics

    def statistics(self, rows: np.ndarray) -> Statistics:
        """Return the statistics of training rows [documents, features]."""
        parts = [
            self.observe(self.shape(rows[:, at : at + COLUMNS_AT_ONCE].astype(np.float64)))
            for at in range(0, rows.shape[1], COLUMNS_AT_ONCE)
        ]
        return {name: np.concatenate([part[name] for part in parts], axis=-1) for name in parts[0]}

    def __call__(self, rows: np.ndarray, statistics: Statistics) -> np.ndarray:
        """Return transformed rows, float32; what happens within a list is left to ``within``."""
        out = np.empty(rows.shape, np.float32)
        for start in range(0, len(rows), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            out[part] = self.apply(self.shape(rows[part].astype(np.float64)), statistics)
        return out


TRANSFORMS: dict[str, Transform] = {
    "none": Transform(),
    "log1p": Transform(shape=signed_log1p),
    "standardise": Transform(observe=_moments, apply=_standardise),
    "log1p-standardise": Transform(shape=signed_log1p, observe=_moments, apply=_standardise),
    "quantile": Transform(observe=_quantiles, apply=_shares),
    "query-standardise": Transform(within=_list_standardised),
    "query-minmax": Transform(within=_list_minmax),
    "log1p-query-standardise": Transform(shape=signed_log1p, within=_list_standardised),
    "quantile-query-standardise": Transform(observe=_quantiles, apply=_shares, within=_list_standardised),
}
"""Every transform by name."""
