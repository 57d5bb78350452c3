r"""rND, rRD and rKL: how far the share of a protected group in the first 10, 20, ... places is from its share in all.

    rND = (1/Z) \sum_{i = 10, 20, ...} |S_i^+ / i - S^+ / N| / \log_2 i
    rRD = (1/Z) \sum_i |S_i^+ / S_i^- - S^+ / S^-| / \log_2 i,     a fraction with denominator 0 counts 0
    rKL = (1/Z) \sum_i KL((S_i^+ / i, S_i^- / i) || (S^+ / N, S^- / N)) / \log_2 i

S_i^+ and S_i^- are the protected and other items of the first i, of N. Z is the largest value that any order of this
many items has, found exactly: the terms depend on the counts at the cut points alone, so the worst counts are those of
the best path from cut to cut. 0 is an order whose prefixes are proportional, 1 the worst there is.

Paper: K. Yang and J. Stoyanovich, Measuring Fairness in Ranked Outputs, SSDBM 2017.

*Deviations*: the published code discounts by log2(i + 1), takes the lesser of two ratios in rRD, and normalises by the
worst of ten simulated rankings, which is not the worst; here it is the paper's formulas and the exact maximum.
Rankings shorter than 20 are cut at every place from the second on.
"""

import itertools
import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from lorank.catalogue import catalogued
from lorank.ranking.fairness.measure import fairness_measure

STEP, SHORT = 10, 20

Distance = Callable[[int, int, int, int], float]
"""(protected in the prefix, length of it, protected in all, length of all) -> distance."""


def cut_points(length: int) -> list[int]:
    """Return the lengths of prefixes that are looked at.

    >>> cut_points(35), cut_points(5)
    ([10, 20, 30], [2, 3, 4, 5])
    """
    return list(range(STEP, length + 1, STEP)) if length >= SHORT else list(range(2, length + 1))


def difference(count: int, cut: int, protected: int, length: int) -> float:
    """Return rND's distance."""
    return abs(count / cut - protected / length)


def ratio(count: int, cut: int, protected: int, length: int) -> float:
    """Return rRD's distance."""

    def fraction(one: int, other: int) -> float:
        return one / other if other else 0.0

    return abs(fraction(count, cut - count) - fraction(protected, length - protected))


def divergence(count: int, cut: int, protected: int, length: int) -> float:
    """Return rKL's distance, in nats."""
    total = 0.0
    for one, other in ((count / cut, protected / length), (1 - count / cut, 1 - protected / length)):
        if one > 0:
            total += one * math.log(one / other)
    return max(total, 0.0)


def discounted(order: np.ndarray, distance: Distance) -> float:
    """Return the sum before it is normalised."""
    counts, protected = np.cumsum(order), int(order.sum())
    return sum(
        distance(int(counts[cut - 1]), cut, protected, len(order)) / math.log2(cut) for cut in cut_points(len(order))
    )


@lru_cache(maxsize=256)
def worst(length: int, protected: int, distance: Distance) -> tuple[float, tuple[int, ...]]:
    """Return the largest sum of any order, and the counts of protected items at the cut points that reach it.

    Args:
        length: N, the number of items.
        protected: How many of them are protected.
        distance: The distance of a prefix.
    """
    cuts = [0, *cut_points(length)]
    best, came = {0: 0.0}, []
    for before, cut in itertools.pairwise(cuts):
        values: dict[int, float] = {}
        origin: dict[int, int] = {}
        for count, value in best.items():
            for more in range(cut - before + 1):
                reached = count + more
                if reached <= protected and cut - reached <= length - protected and value > values.get(reached, -1.0):
                    values[reached], origin[reached] = value, count
        term = 1 / math.log2(cut)
        best = {count: value + term * distance(count, cut, protected, length) for count, value in values.items()}
        came.append(origin)
    count = max(best, key=best.__getitem__)
    value, path = best[count], []
    for origin in reversed(came):
        path.append(count)
        count = origin[count]
    return value, tuple(reversed(path))


def worst_order(length: int, protected: int, distance: Distance) -> np.ndarray:
    """Return an order, bool [length], that has the largest sum."""
    path = worst(length, protected, distance)[1]
    order, before, held = [], 0, 0
    for cut, count in zip(cut_points(length), path, strict=True):
        order += [True] * (count - held) + [False] * (cut - before - count + held)
        before, held = cut, count
    return np.array([*order, *[True] * (protected - held), *[False] * (length - before - protected + held)])


def normalised(order: np.ndarray, distance: Distance) -> float:
    """Return the sum as a share of the largest; 0 where no order has any."""
    largest = worst(len(order), int(order.sum()), distance)[0]
    return min(discounted(order, distance) / largest, 1.0) if largest > 0 else 0.0


@catalogued(
    "fairness-ranked-outputs",
    area="fair",
    title="Measuring Fairness in Ranked Outputs",
    reach="it judges and trains nothing, so it has no recipe key: lorank fairness --table scores.csv --by score "
    "--group sex",
)
@fairness_measure("rnd")
def rnd(protected: np.ndarray) -> float:
    """Return the normalised discounted difference of an order, bool [n].

    >>> order = np.arange(100) % 10 == 0                     # one of ten in every ten
    >>> rnd(order), rnd(np.sort(order)[::-1])
    (0.0, 1.0)
    """
    return normalised(protected, difference)


@fairness_measure("rrd")
def rrd(protected: np.ndarray) -> float:
    """Return the normalised discounted ratio of an order, bool [n]; it is meant for protected minorities."""
    return normalised(protected, ratio)


@fairness_measure("rkl")
def rkl(protected: np.ndarray) -> float:
    """Return the normalised discounted divergence of an order, bool [n]."""
    return normalised(protected, divergence)
