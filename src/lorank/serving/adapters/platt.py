"""From scores to probabilities, where an adapter's folder says how.

lorank.json of a tuned ranker or of its adapter may hold

    "calibration": {"kind": "platt", "slope": a, "intercept": b}          P(relevant | s) = 1 / (1 + exp(-(a s + b)))

with a > 0, so that the order stays. Paper: Platt 1999, Probabilistic Outputs for Support Vector Machines.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from lorank.errors import DataError


@dataclass(frozen=True)
class Platt:
    """P = logistic(slope * score + intercept), slope > 0.

    >>> Platt(2.0, -1.0)(np.array([0.5], np.float32))
    array([0.5], dtype=float32)
    """

    slope: float
    intercept: float

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Return float32 probabilities, one a score."""
        return np.asarray(expit(self.slope * np.asarray(scores, np.float64) + self.intercept), np.float32)


def _platt(row: dict[str, Any]) -> Platt:
    slope, intercept = float(row["slope"]), float(row["intercept"])
    if not (math.isfinite(slope) and slope > 0 and math.isfinite(intercept)):
        raise ValueError("slope must be a number above 0 and intercept a number")
    return Platt(slope, intercept)


KINDS: dict[str, Callable[[dict[str, Any]], Callable[[np.ndarray], np.ndarray]]] = {"platt": _platt}


def read_calibration(card: str | Path) -> Callable[[np.ndarray], np.ndarray] | None:
    """Return the calibration that a lorank.json holds, or None where it (or the file) has none."""
    path = Path(card)
    if not path.is_file():
        return None
    try:
        row = json.loads(path.read_text())
        row = row.get("calibration") if isinstance(row, dict) else None
    except (OSError, ValueError) as error:
        raise DataError(path, None, f"not JSON ({error})", "save the adapter again") from error
    if row is None:
        return None
    try:
        return KINDS[row["kind"]](row)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            path,
            None,
            f"the calibration cannot be read ({error})",
            'write {"kind": "platt", "slope": a, "intercept": b} with a > 0',
        ) from error
