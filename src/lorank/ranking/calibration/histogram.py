r"""Histogram binning: the share of relevant documents in each of a few bins of equally many scores.

    P(relevant | s in bin b) = (n_b^+ + p) / (n_b + 1),   p the share of relevant documents in all

Paper: B. Zadrozny and C. Elkan, Obtaining calibrated probability estimates from decision trees and naive Bayesian
classifiers, ICML 2001.

*Deviations*: neighbouring bins whose shares would fall are pooled, so that a higher score never means a lower
probability; bins are smoothed by one pair of the common share.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from lorank.ranking.calibration.calibrator import Calibrator, calibrator, check_fits, points_of, refuse_falling
from lorank.ranking.calibration.errors_of_probabilities import lower_edges
from lorank.ranking.calibration.isotonic import pool_with_sizes
from lorank.ranking.calibration.labelled import Labelled


@calibrator("histogram")
@dataclass(frozen=True)
class Histogram(Calibrator):
    """P = the probability of the last bin whose lower edge in ``scores`` is not above the score.

    >>> Histogram((0.0, 1.0), (0.2, 0.8))(np.array([-1.0, 0.5, 1.0])).round(4)
    array([0.2, 0.2, 0.8], dtype=float32)
    """

    bins: ClassVar[int] = 15
    scores: tuple[float, ...]
    probabilities: tuple[float, ...]

    @classmethod
    def fit(cls, data: Labelled) -> Self:
        """Return the shares of up to 15 bins; raise UsageError where all pool into one."""
        check_fits(data)
        edges = lower_edges(data.scores, cls.bins)
        at = np.searchsorted(edges, data.scores, side="right") - 1
        sizes = np.bincount(at, minlength=len(edges)).astype(np.float64)
        shares = (np.bincount(at, weights=data.relevant, minlength=len(edges)) + data.relevant.mean()) / (sizes + 1)
        levels, counts = pool_with_sizes(shares, sizes + 1)
        if len(levels) == 1:
            raise refuse_falling("histogram")
        begins = np.concatenate([[0], np.cumsum(counts)[:-1]])
        return cls(tuple(edges[begins].tolist()), tuple(levels.tolist()))

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Return float32 probabilities, one per score."""
        at = np.searchsorted(np.array(self.scores), np.asarray(scores, np.float64), side="right") - 1
        return np.array(self.probabilities, np.float32)[np.maximum(at, 0)]

    def to_dict(self) -> dict[str, Any]:
        """Return the lower edges and the probabilities of the bins."""
        return {"scores": list(self.scores), "probabilities": list(self.probabilities)}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        """Return the bins that a description states."""
        return cls(*points_of(row))
