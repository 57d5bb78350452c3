r"""Temperature scaling: one number that makes logits as sure as they are right.

    P(relevant | s) = 1 / (1 + exp(-s / T)),   T > 0

T minimises the cross-entropy. A score of 0 stays at one half, so this fits scores that are logits already (those of a
cross-encoder trained by `bce`); BM25's and cosines need the intercept that Platt's line has.

Paper: C. Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy.special import expit

from lorank.ranking.calibration.calibrator import Calibrator, calibrator, check_fits, number_of, refuse_falling
from lorank.ranking.calibration.labelled import Labelled
from lorank.ranking.calibration.logistic import fit_logistic


@calibrator("temperature")
@dataclass(frozen=True)
class Temperature(Calibrator):
    """P = logistic(score / temperature), temperature > 0.

    >>> Temperature(2.0)(np.array([0.0], np.float32))
    array([0.5], dtype=float32)
    """

    temperature: float

    @classmethod
    def fit(cls, data: Labelled) -> Self:
        """Return the temperature of the least cross-entropy; raise UsageError where none above 0 is best."""
        check_fits(data)
        unit = float(np.abs(data.scores).mean())
        slope = float(fit_logistic((data.scores / unit)[:, None], data.relevant.astype(np.float64))[0])
        if slope <= 0:
            raise refuse_falling("temperature")
        return cls(unit / slope)

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Return float32 probabilities, one per score."""
        return np.asarray(expit(np.asarray(scores, np.float64) / self.temperature), np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Return the temperature."""
        return {"temperature": self.temperature}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        """Return the temperature that a description states."""
        return cls(number_of(row, "temperature", positive=True))
