"""Fit a calibrator, and choose among several by what they say of groups of queries that they were not fitted to."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.calibration.calibrator import Calibrator, find_calibrator
from lorank.ranking.calibration.errors_of_probabilities import Quality, measure_quality
from lorank.ranking.calibration.labelled import Labelled

IN_ORDER = ("platt", "temperature", "beta", "isotonic", "histogram")
"""The calibrators as ties are broken: few numbers go before many."""


@dataclass(frozen=True)
class Candidate:
    """A calibrator by name, and the quality of its probabilities for pairs that it was not fitted to."""

    name: str
    quality: Quality
    remark: str = ""


def fit_calibrator(name: str, data: Labelled) -> Calibrator:
    """Return the calibrator called ``name``, fitted to ``data``.

    Raises:
        UsageError: For an unknown name, labels that are all equal, and scores that do not rise with relevance.

    >>> from lorank.ranking.calibration.labelled import of_pairs
    >>> scores = np.array([-2.0, -1.0, 0.0, 1.0, 2.0, 3.0])
    >>> fitted = fit_calibrator("platt", of_pairs(scores, scores > 0.5))
    >>> bool(fitted(np.array([0.5]))[0] < fitted(np.array([2.5]))[0])
    True
    """
    return find_calibrator(name).fit(data)


def cross_fit(name: str, data: Labelled, *, rng: np.random.Generator, folds: int = 5) -> np.ndarray:
    """Return probabilities float64 [n], each by a calibrator that was fitted to other groups.

    Args:
        name: The name of the calibrator.
        data: The pairs.
        rng: It divides the groups.
        folds: Into how many parts, 2 or more.
    """
    groups = np.unique(data.group)
    if len(groups) < 2:
        raise UsageError("all queries share relevant documents with each other: one group is too few to calibrate on")
    parts = np.array_split(rng.permutation(groups), min(folds, len(groups)))
    probabilities = np.zeros(len(data))
    for part in parts:
        out = np.isin(data.group, part)
        probabilities[out] = fit_calibrator(name, data.take(~out))(data.scores[out])
    return probabilities


def compare_calibrators(
    data: Labelled, names: Sequence[str] = IN_ORDER, *, seed: int = 0, folds: int = 5, resamples: int = 1000
) -> list[Candidate]:
    """Return the calibrators by cross-fitted log loss, lowest first; those that cannot be fitted are left out.

    Args:
        data: The pairs.
        names: The names of the calibrators.
        seed: It divides the groups, alike for each, and draws resamples.
        folds: Into how many parts the groups are divided, 2 or more.
        resamples: The number of resamples of the intervals, 1 or more.

    Raises:
        UsageError: If none of them can be fitted; the reason is that of the first.
    """
    found, reasons = [], []
    for name in names:
        try:
            probabilities = cross_fit(name, data, rng=np.random.default_rng(seed), folds=folds)
        except UsageError as error:
            reasons.append(error)
            continue
        quality = measure_quality(probabilities, data, rng=np.random.default_rng(seed), resamples=resamples)
        found.append(Candidate(name, quality))
    if not found:
        raise reasons[0]
    return sorted(found, key=lambda each: each.quality.log_loss)
