"""How far two score vectors of the same pairs are apart: largest change, order kept, pairs flipped."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lorank.rank_correlation import count_flipped, kendall_tau

Probe = Callable[[nn.Module], Tensor | np.ndarray]
"""Scores a fixed set of inputs with the model that it is given."""


@dataclass(frozen=True)
class ScoreChange:
    """What became of n scores: ``largest`` absolute change, Kendall's tau-b, and flipped of all pairs."""

    largest: float
    kendall_tau: float
    flipped_pairs: int
    pairs: int


def compare_scores(before: Tensor | np.ndarray, after: Tensor | np.ndarray) -> ScoreChange:
    """Compare two score vectors [n].

    The tau-b is that of `lorank.rank_correlation`; a pair is flipped where the two order it in opposite ways. Scores
    that are not finite count as an infinite change with every pair flipped.

    >>> compare_scores(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.5]))
    ScoreChange(largest=1.0, kendall_tau=0.333..., flipped_pairs=1, pairs=3)
    """
    a, b = _flat(before), _flat(after)
    if a.shape != b.shape:
        raise ValueError(f"{a.size} scores cannot be compared with {b.size}")
    if not a.size:
        return ScoreChange(0.0, 1.0, 0, 0)
    pairs = a.size * (a.size - 1) // 2
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return ScoreChange(float("inf"), float("nan"), pairs, pairs)
    return ScoreChange(float(np.abs(a - b).max()), kendall_tau(a, b), count_flipped(a, b), pairs)


@torch.no_grad()
def probe_scores(probe: Probe, model: nn.Module) -> np.ndarray:
    """Return the probe's scores [n] of ``model`` in evaluation mode; each module's mode is put back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        return _flat(probe(model))
    finally:
        for module, training in modes:
            module.training = training


def _flat(scores: Tensor | np.ndarray) -> np.ndarray:
    if isinstance(scores, Tensor):
        scores = (
            scores.detach().float().cpu().numpy() if scores.dtype is torch.bfloat16 else scores.detach().cpu().numpy()
        )
    return np.asarray(scores, dtype=np.float64).reshape(-1)
