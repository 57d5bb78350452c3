"""A calibration in a model folder: the entry ``calibration`` of lorank.json.

    "calibration": {"kind": "platt", "slope": a, "intercept": b,
                    "thresholds": [{"target": 0.9, "confidence": 0.95, "unit": "best", "score": 1.7, ...}],
                    "fitted_on": {"data": ..., "queries": ..., "groups": ..., "pairs": ..., "candidates": ...}}

``kind`` and its parameters are those of a calibrator; the other keys may be missing. The manifest of the folder does
not list lorank.json, so a calibration can be added to what was trained.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from lorank.errors import DataError, LorankError
from lorank.files import write_text
from lorank.ranking.calibration.calibrator import Calibrator, find_calibrator, number_of

KEY = "calibration"
REMEDY = 'write {"kind": "platt", "slope": a, "intercept": b} with a > 0, or run `lorank calibrate` again'


@dataclass(frozen=True)
class Threshold:
    """A certified cut-off: at ``score`` or above the precision is ``target`` at least, at the stated ``confidence``.

    ``unit`` says whose precision (see `lorank.ranking.calibration.guarantees`), ``groups`` on how many groups it was
    tested, ``answered`` for which share of them something was at or above it.
    """

    score: float
    target: float
    confidence: float
    unit: str
    groups: int = 0
    answered: float = 0.0

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        """Return the threshold that a description states."""
        score, target, confidence = (number_of(row, key) for key in ("score", "target", "confidence"))
        return cls(
            score, target, confidence, str(row["unit"]), int(row.get("groups", 0)), float(row.get("answered", 0.0))
        )


@dataclass(frozen=True)
class Calibration:
    """A calibrator with the thresholds that were certified beside it, and what it was fitted on."""

    calibrator: Calibrator
    thresholds: tuple[Threshold, ...] = ()
    fitted_on: dict[str, Any] = field(default_factory=dict)

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Return float32 probabilities, one per score."""
        return self.calibrator(scores)

    @property
    def threshold(self) -> Threshold | None:
        """The threshold that serves where none is chosen: the first."""
        return self.thresholds[0] if self.thresholds else None

    def to_dict(self) -> dict[str, Any]:
        """Return the entry of lorank.json."""
        return {
            "kind": self.calibrator.name,
            **self.calibrator.to_dict(),
            "thresholds": [asdict(each) for each in self.thresholds],
            "fitted_on": self.fitted_on,
        }

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        """Return the calibration of an entry; raise KeyError, TypeError, ValueError or UsageError for anything else."""
        thresholds = tuple(Threshold.from_dict(each) for each in row.get("thresholds", []))
        return cls(find_calibrator(row["kind"]).from_dict(row), thresholds, dict(row.get("fitted_on", {})))


def read_calibration(card: str | Path) -> Calibration | None:
    """Return the calibration that a lorank.json holds, or None where it (or the file) has none.

    Raises:
        DataError: For a file that is not JSON, and an entry that states no calibration.
    """
    path = Path(card)
    if not path.is_file():
        return None
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        row = row.get(KEY) if isinstance(row, dict) else None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(path, None, f"not JSON ({error})", "save the adapter again") from error
    if row is None:
        return None
    try:
        return Calibration.from_dict(row)
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, LorankError) as error:
        problem = f"the calibration cannot be read ({error})"[:400]
        raise DataError(path, None, problem, REMEDY) from error


def write_calibration(card: str | Path, calibration: Calibration | None) -> None:
    """Put a calibration into a lorank.json that exists, in place of one that it has; None takes it out."""
    path = Path(card)
    about = json.loads(path.read_text(encoding="utf-8"))
    about.pop(KEY, None)
    if calibration is not None:
        about[KEY] = calibration.to_dict()
    write_text(path, json.dumps(about, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
