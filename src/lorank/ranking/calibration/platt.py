r"""Platt scaling: the logistic function of a line.

    P(relevant | s) = 1 / (1 + exp(-(a s + b))),   a > 0

a and b minimise the cross-entropy to the labels t_+ = (n_+ + 1) / (n_+ + 2) and t_- = 1 / (n_- + 2), which keep the
slope finite where a score separates the classes.

Paper: J. Platt, Probabilistic Outputs for Support Vector Machines, 1999.

*Deviations*: Newton's method on standardised scores, as H.-T. Lin, C.-J. Lin and R. Weng (2007) advise, in place of
Platt's own loop.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy.special import expit

from lorank.ranking.calibration.calibrator import Calibrator, calibrator, check_fits, number_of, refuse_falling
from lorank.ranking.calibration.labelled import Labelled
from lorank.ranking.calibration.logistic import fit_logistic


@calibrator("platt")
@dataclass(frozen=True)
class Platt(Calibrator):
    """P = logistic(slope * score + intercept), slope > 0.

    >>> Platt(2.0, -1.0)(np.array([0.5], np.float32))
    array([0.5], dtype=float32)
    """

    slope: float
    intercept: float

    @classmethod
    def fit(cls, data: Labelled) -> Self:
        """Return the line of the least cross-entropy; raise UsageError where it does not rise."""
        check_fits(data)
        positive = int(data.relevant.sum())
        targets = np.where(data.relevant, (positive + 1) / (positive + 2), 1 / (len(data) - positive + 2))
        mean, std = float(data.scores.mean()), float(data.scores.std())
        slope, intercept = fit_logistic(np.stack([(data.scores - mean) / std, np.ones(len(data))], 1), targets)
        if slope <= 0:
            raise refuse_falling("platt")
        return cls(float(slope / std), float(intercept - slope * mean / std))

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Return float32 probabilities, one per score."""
        return np.asarray(expit(self.slope * np.asarray(scores, np.float64) + self.intercept), np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Return the slope and the intercept."""
        return {"slope": self.slope, "intercept": self.intercept}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        """Return the line that a description states."""
        return cls(number_of(row, "slope", positive=True), number_of(row, "intercept"))
