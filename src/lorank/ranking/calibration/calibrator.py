"""The registry of calibrators, and what each of them promises."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self, TypeVar

import numpy as np

from lorank.errors import UsageError, unknown_name
from lorank.ranking.calibration.labelled import Labelled

MOST_POINTS = 10_000
"""The most points of a step or broken line that a folder may state."""


class Calibrator(ABC):
    """A function from scores to probabilities of relevance that never falls: it keeps the order."""

    name: ClassVar[str] = ""

    @classmethod
    @abstractmethod
    def fit(cls, data: Labelled) -> Self:
        """Return the calibrator of this form that fits ``data`` best.

        Raises UsageError where the labels are all equal, or no rising function fits better than a constant.
        """

    @abstractmethod
    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Return float32 probabilities in [0, 1], one per score."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return the parameters, JSON-ready."""

    @classmethod
    @abstractmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        """Return what ``to_dict`` described; raise KeyError, TypeError or ValueError for anything else."""


CALIBRATORS: dict[str, type[Calibrator]] = {}
"""Every calibrator by its name; `lorank.ranking.calibration.CALIBRATORS` is this one, filled."""

C = TypeVar("C", bound=type[Calibrator])


def calibrator(name: str) -> Callable[[C], C]:
    """Decorate a class to enter it in ``CALIBRATORS`` under ``name``."""

    def enter(kind: C) -> C:
        kind.name = name
        CALIBRATORS[name] = kind
        return kind

    return enter


def find_calibrator(name: str) -> type[Calibrator]:
    """Return the calibrator called ``name``; raise UsageError with the nearest known name for any other.

    >>> find_calibrator("plat")
    Traceback (most recent call last):
    lorank.errors.UsageError: unknown calibrator 'plat'; did you mean 'platt'? ...
    """
    from lorank.ranking.calibration import CALIBRATORS as FILLED

    if name not in FILLED:
        raise unknown_name("calibrator", name, FILLED)
    found: type[Calibrator] = FILLED[name]
    return found


def check_fits(data: Labelled) -> None:
    """Raise UsageError where nothing can be learned: no pairs, labels that are all equal, or one score for all."""
    relevant = int(data.relevant.sum())
    if not 0 < relevant < len(data):
        raise UsageError(
            f"{relevant} of {len(data)} scored documents are relevant; a calibration needs some that are "
            "and some that are not"
        )
    if float(np.ptp(data.scores)) == 0.0:  # exact: one and the same number, copied
        raise UsageError("all scores are equal; there is nothing to calibrate")


def refuse_falling(name: str) -> UsageError:
    """Return the error for scores that do not rise with relevance."""
    return UsageError(f"{name}: relevant documents score no higher than others here; such scores cannot be calibrated")


def number_of(row: Mapping[str, Any], key: str, *, positive: bool = False) -> float:
    """Return a finite number of a description; raise KeyError, TypeError or ValueError for anything else."""
    value = float(row[key])
    if not math.isfinite(value) or (positive and value <= 0):
        raise ValueError(f"{key} must be a finite number{' above 0' if positive else ''}")
    return value


def points_of(row: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the rising ``scores`` and the ``probabilities``, none of which falls, of a description."""
    scores, probabilities = (_floats(row[key]) for key in ("scores", "probabilities"))
    x, y = np.array(scores), np.array(probabilities)
    if not 0 < len(x) <= MOST_POINTS or len(x) != len(y) or not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError(f"scores and probabilities must be 1 to {MOST_POINTS} finite numbers each, as many of both")
    if (np.diff(x) <= 0).any() or (np.diff(y) < 0).any() or y[0] < 0 or y[-1] > 1:
        raise ValueError("scores must rise, and probabilities lie between 0 and 1 and not fall")
    return scores, probabilities


def _floats(values: Sequence[Any]) -> tuple[float, ...]:
    if not isinstance(values, list | tuple):
        raise TypeError("a list of numbers is needed")
    return tuple(float(value) for value in values[: MOST_POINTS + 1])
