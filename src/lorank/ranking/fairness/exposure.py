r"""Exposure and attention: how much two groups are seen, by place.

    exposure(i) = 1 / \log_2(i + 1),      attention(i) = p (1 - p)^{i - 1},  p = 0.3
    disparity = 1 - min(a, b) / max(a, b),   a and b the mean over each group's items

Disparate treatment divides each mean by the group's mean merit first: groups should be seen in proportion to what they
are worth.

Paper: A. Singh and T. Joachims, Fairness of Exposure in Rankings, KDD 2018; P. Sapiezynski et al., Quantifying the
Impact of User Attention on Fair Group Representation in Ranked Lists, 2019.
"""

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.fairness.measure import fairness_measure

STOP = 0.3


def exposures(count: int) -> np.ndarray:
    """Return the exposure of each place, float64 [count].

    >>> exposures(3).round(4).tolist()
    [1.0, 0.6309, 0.5]
    """
    return np.asarray(1 / np.log2(np.arange(2, count + 2)))


def attentions(count: int, stop: float = STOP) -> np.ndarray:
    """Return the probability that a reader who stops with probability ``stop`` looks last at each place."""
    return np.asarray(stop * (1 - stop) ** np.arange(count))


def disparity(one: float, other: float) -> float:
    """Return 1 - min / max of two means of 0 or above; 0 where both are 0."""
    larger = max(one, other)
    return 1 - min(one, other) / larger if larger > 0 else 0.0


@fairness_measure("exposure")
def exposure(protected: np.ndarray) -> float:
    """Return the disparity of the mean exposure of both groups of an order, bool [n].

    >>> round(exposure(np.array([True, False])), 4)                   # 1 - 0.6309
    0.3691
    """
    values = exposures(len(protected))
    return disparity(float(values[protected].mean()), float(values[~protected].mean()))


@fairness_measure("attention")
def attention(protected: np.ndarray) -> float:
    """Return the disparity of the mean attention of both groups of an order, bool [n]."""
    values = attentions(len(protected))
    return disparity(float(values[protected].mean()), float(values[~protected].mean()))


def disparate_treatment(protected: np.ndarray, merit: np.ndarray) -> float:
    """Return the disparity of exposure per merit, 0 to 1.

    Args:
        protected: Whether each item is protected, bool [n], best first.
        merit: What each item is worth, [n], 0 or above, such as its relevance.

    Raises:
        UsageError: Where a group has no merit at all.
    """
    values, rate = exposures(len(protected)), []
    for group in (protected, ~protected):
        worth = float(np.mean(merit[group])) if group.any() else 0.0
        if worth <= 0:
            raise UsageError("a group has no merit; exposure in proportion to it is not defined")
        rate.append(float(values[group].mean()) / worth)
    return disparity(rate[0], rate[1])
