r"""Isotonic regression: the step function that never falls and fits best.

    minimise  \sum_i (y_i - f(s_i))^2   over all f that do not fall

found by pooling neighbours that are out of order (PAV). Between two steps the value is interpolated; beyond the ends it
stays.

Paper: B. Zadrozny and C. Elkan, Transforming Classifier Scores into Accurate Multiclass Probability Estimates, KDD
2002.

*Deviations*: a step of probability 0 or 1 is drawn in to 1 / (n + 2) and (n + 1) / (n + 2) of its n pairs: that none of
them was relevant does not make it impossible.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from lorank.ranking.calibration.calibrator import Calibrator, calibrator, check_fits, points_of, refuse_falling
from lorank.ranking.calibration.labelled import Labelled


@calibrator("isotonic")
@dataclass(frozen=True)
class Isotonic(Calibrator):
    """P = the broken line through (scores, probabilities).

    >>> Isotonic((0.0, 2.0), (0.2, 0.8))(np.array([-1.0, 1.0, 5.0])).round(4)
    array([0.2, 0.5, 0.8], dtype=float32)
    """

    scores: tuple[float, ...]
    probabilities: tuple[float, ...]

    @classmethod
    def fit(cls, data: Labelled) -> Self:
        """Return the best step function; raise UsageError where it is a constant."""
        check_fits(data)
        values, at = np.unique(data.scores, return_inverse=True)
        weights = np.bincount(at).astype(np.float64)
        means = np.bincount(at, weights=data.relevant.astype(np.float64)) / weights
        levels, starts = pool_adjacent_violators(means, weights)
        if len(levels) == 1:
            raise refuse_falling("isotonic")
        ends = np.append(starts[1:], len(values))
        counts = np.add.reduceat(weights, starts)
        drawn = np.clip(levels, 1 / (counts + 2), (counts + 1) / (counts + 2))
        drawn = np.repeat(*pool_with_sizes(drawn, counts))
        x: list[float] = []
        y: list[float] = []
        for level, start, end in zip(drawn.tolist(), starts.tolist(), ends.tolist(), strict=True):
            for place in dict.fromkeys((start, end - 1)):
                x.append(float(values[place]))
                y.append(float(level))
        return cls(tuple(x), tuple(y))

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Return float32 probabilities, one per score."""
        return np.interp(np.asarray(scores, np.float64), self.scores, self.probabilities).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Return the corners of the line."""
        return {"scores": list(self.scores), "probabilities": list(self.probabilities)}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        """Return the line that a description states."""
        return cls(*points_of(row))


def pool_adjacent_violators(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the levels of the best rising steps, and where each begins.

    Args:
        values: The values [n] in the order of their places.
        weights: The weight [n] of each value, above 0.

    >>> pool_adjacent_violators(np.array([1.0, 3.0, 2.0]), np.ones(3))
    (array([1. , 2.5]), array([0, 1]))
    """
    levels: list[float] = []
    sums: list[float] = []
    starts: list[int] = []
    for place, (value, weight) in enumerate(zip(values.tolist(), weights.tolist(), strict=True)):
        level, total, start = value, weight, place
        while levels and levels[-1] >= level:
            before = sums.pop()
            level = (levels.pop() * before + level * total) / (before + total)
            total, start = total + before, starts.pop()
        levels.append(level)
        sums.append(total)
        starts.append(start)
    return np.array(levels), np.array(starts, np.int64)


def pool_with_sizes(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the levels of the best rising steps, and how many values each holds."""
    levels, starts = pool_adjacent_violators(values, weights)
    return levels, np.diff(np.append(starts, len(values)))
