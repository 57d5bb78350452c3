r"""Beta calibration: the family that holds the identity, the logistic curves and their inverses.

    P(relevant | p) = 1 / (1 + exp(-(a ln p - b ln(1 - p) + c))),   a, b >= 0,   p = 1 / (1 + exp(-(s - m) / d))

It is exact where p follows a Beta distribution in each class. a = b gives Platt's line. A negative coefficient is set
to 0 and the other two are fitted again, as in the paper.

Paper: M. Kull, T. Silva Filho and P. Flach, Beta calibration, AISTATS 2017.

*Deviations*: ranking scores are no probabilities; they are brought to (0, 1) by the mean m and the deviation d of the
scores that are fitted to.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy.special import expit

from lorank.ranking.calibration.calibrator import Calibrator, calibrator, check_fits, number_of, refuse_falling
from lorank.ranking.calibration.labelled import Labelled
from lorank.ranking.calibration.logistic import fit_logistic


@calibrator("beta")
@dataclass(frozen=True)
class Beta(Calibrator):
    """P = logistic(a ln p - b ln(1 - p) + c), p = logistic((score - centre) / unit).

    >>> Beta(1.0, 1.0, 0.0, 0.0, 1.0)(np.array([0.0, 1.0])).round(4)     # the logistic function itself
    array([0.5   , 0.7311], dtype=float32)
    """

    a: float
    b: float
    c: float
    centre: float
    unit: float

    @classmethod
    def fit(cls, data: Labelled) -> Self:
        """Return the coefficients of the least cross-entropy; raise UsageError where neither a nor b is above 0."""
        check_fits(data)
        centre, unit = float(data.scores.mean()), float(data.scores.std())
        z, targets = (data.scores - centre) / unit, data.relevant.astype(np.float64)
        rising, one = np.stack([-np.logaddexp(0, -z), np.logaddexp(0, z)], 1), np.ones((len(z), 1))
        a, b, c = fit_logistic(np.hstack([rising, one]), targets)
        if min(a, b) < 0:
            kept = 1 if a < b else 0
            slope, c = fit_logistic(np.hstack([rising[:, [kept]], one]), targets)
            a, b = (slope, 0.0) if kept == 0 else (0.0, slope)
        if max(a, b) <= 0:
            raise refuse_falling("beta")
        return cls(float(max(a, 0.0)), float(max(b, 0.0)), float(c), centre, unit)

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Return float32 probabilities, one per score."""
        z = (np.asarray(scores, np.float64) - self.centre) / self.unit
        logits = -self.a * np.logaddexp(0, -z) + self.b * np.logaddexp(0, z) + self.c
        return np.asarray(expit(logits), np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Return the three coefficients and the scale of the scores."""
        return {"a": self.a, "b": self.b, "c": self.c, "centre": self.centre, "unit": self.unit}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        """Return the curve that a description states."""
        a, b, c, centre = (number_of(row, key) for key in ("a", "b", "c", "centre"))
        if min(a, b) < 0 or max(a, b) <= 0:
            raise ValueError("a and b must be 0 or above, and one of them above 0")
        return cls(a, b, c, centre, number_of(row, "unit", positive=True))
