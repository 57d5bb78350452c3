r"""Scores of one query made comparable within it: no probabilities, but what many tools expect.

    z: (s - mean) / std     min-max: (s - min) / (max - min)     softmax: e^s / \sum e^s     rank: 1 - (place - 1) / n
    share: (s - min) / \sum (s - min)

Each depends on the whole list, so a document's number changes with its company; a calibration does not.
"""

from collections.abc import Callable

import numpy as np
from scipy.special import softmax
from scipy.stats import rankdata

from lorank.errors import unknown_name
from lorank.ranking.consensus.fusion import standardise, to_unit_interval

Normalisation = Callable[[np.ndarray], np.ndarray]
"""``normalisation(scores [n]) -> float64 [n]``, which keeps the order."""

NORMALISATIONS: dict[str, Normalisation] = {}
"""Every normalisation by its name."""


def normalisation(name: str) -> Callable[[Normalisation], Normalisation]:
    """Decorate a function to enter it in ``NORMALISATIONS`` under ``name``."""

    def enter(function: Normalisation) -> Normalisation:
        NORMALISATIONS[name] = function
        return function

    return enter


def normalise(scores: np.ndarray, name: str) -> np.ndarray:
    """Return the scores [n] of one query, normalised; an empty list stays empty.

    >>> normalise(np.array([1.0, 3.0, 2.0]), "min-max").tolist()
    [0.0, 1.0, 0.5]
    """
    if name not in NORMALISATIONS:
        raise unknown_name("normalisation", name, NORMALISATIONS)
    values = np.asarray(scores, np.float64)
    return NORMALISATIONS[name](values) if len(values) else values


@normalisation("z")
def z(scores: np.ndarray) -> np.ndarray:
    """Return scores of mean 0 and deviation 1; zeros where all are equal."""
    return np.asarray(standardise(scores), np.float64)


@normalisation("min-max")
def min_max(scores: np.ndarray) -> np.ndarray:
    """Return scores from 0 to 1."""
    return np.asarray(to_unit_interval(scores), np.float64)


@normalisation("softmax")
def softmax_over_list(scores: np.ndarray) -> np.ndarray:
    """Return scores that add up to 1, by the exponential."""
    return np.asarray(softmax(scores))


@normalisation("rank")
def rank(scores: np.ndarray) -> np.ndarray:
    """Return 1 for the best and 1 / n for the last; equal scores share their mean."""
    return np.asarray(rankdata(scores) / len(scores))


@normalisation("share")
def share(scores: np.ndarray) -> np.ndarray:
    """Return what each is above the lowest, as a share of the sum; equal shares where all are equal."""
    above = scores - scores.min()
    total = above.sum()
    return np.asarray(above / total if total > 0 else np.full(len(scores), 1 / len(scores)))
