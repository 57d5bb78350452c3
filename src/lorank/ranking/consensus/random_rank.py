"""Random rank: one number from many reports, such that nobody gains by a false one.

Judges report numbers x_1 .. x_n (a document's grade, a threshold). Draw k uniformly from 1 .. n and take the k-th
highest report. A judge's expected cost, the distance of the outcome from what it thinks, is

    E |y - x_i| = (1 / n) sum_j |x_j - x_i|

in which its own report only adds its own error, so the truth is best; and of two groups with one opinion each, both
bear the same expected total cost n_1 n_2 |x_1 - x_2| / n. Aziz, Lam, Lee and Walsh 2022, Random Rank: The One and
Only Strategyproof and Proportionally Fair Randomized Facility Location Mechanism, NeurIPS, arXiv 2205.14798.
"""

import numpy as np

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.ranking.consensus.profile import Floats


@catalogued(
    "random-rank-mechanism",
    area="aggregate",
    title="Random Rank: The One and Only Strategyproof and Proportionally Fair Randomized Facility Location Mechanism",
    reach="Python alone: it draws one number out of reports; `lorank aggregate` orders items",
)
def random_rank(reports: Floats, generator: np.random.Generator) -> float:
    """Return the k-th highest of the reports [n], k drawn uniformly from 1 .. n.

    >>> random_rank(np.array([3.0, 3.0]), np.random.default_rng(0))
    3.0
    """
    reports = _check(reports)
    rank = int(generator.integers(1, len(reports) + 1))
    return float(np.sort(reports)[-rank])


def expected_cost(reports: Floats, opinion: float) -> float:
    """Return the expected distance of the outcome from ``opinion``.

    >>> expected_cost(np.array([0.0, 0.0, 1.0]), 1.0) == 2 / 3
    True
    """
    return float(np.abs(_check(reports) - opinion).mean())


def _check(reports: Floats) -> Floats:
    reports = np.asarray(reports, np.float64)
    if reports.ndim != 1 or not len(reports) or not np.isfinite(reports).all():
        raise UsageError("give one finite report from each judge, at least one")
    return reports
