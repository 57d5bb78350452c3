r"""Scores moved towards fairness: one bonus for the protected group, chosen for accuracy, fairness, or between.

    s'(x) = s(x) + b [x is protected],   b minimises (1 - \lambda) (1 - nDCG(s')) + \lambda rND(s')

Paper: K. Yang and J. Stoyanovich, Measuring Fairness in Ranked Outputs, SSDBM 2017.

*Deviations*: the paper learns prototypes; a bonus is the one-number form of its trade.
"""

from dataclasses import dataclass

import numpy as np

from lorank.ranking.fairness.measure import measure_fairness


@dataclass(frozen=True)
class Traded:
    """The bonus, and the nDCG and unfairness that it leads to."""

    bonus: float
    ndcg: float
    unfairness: float


def trade(scores: np.ndarray, protected: np.ndarray, weight: float, *, measure: str = "rnd", steps: int = 81) -> Traded:
    """Return the bonus that is best for a weight of fairness.

    Args:
        scores: The score of each item, [n], which is also what it is worth.
        protected: Whether each item is protected, bool [n].
        weight: lambda, from 0 (accuracy alone) to 1 (fairness alone).
        measure: The name of a fairness measure.
        steps: How many bonuses between minus and plus the range of the scores are tried, 2 or more.

    >>> found = trade(np.array([3.0, 2.0, 1.0, 0.0]), np.array([False, False, True, True]), 0.0)
    >>> found.ndcg, found.unfairness > 0
    (1.0, True)
    """
    worth = scores - scores.min()
    best = None
    for bonus in [0.0, *(np.linspace(-1, 1, steps) * float(np.ptp(scores))).tolist()]:
        order = np.argsort(-(scores + bonus * protected), kind="stable")
        discounts = 1 / np.log2(np.arange(2, len(scores) + 2))
        ndcg = float(worth[order] @ discounts / (np.sort(worth)[::-1] @ discounts))
        unfair = measure_fairness(measure, protected[order])
        cost = (1 - weight) * (1 - ndcg) + weight * unfair
        if best is None or cost < best[0] - 1e-12:
            best = cost, Traded(bonus, ndcg, unfair)
    assert best is not None
    return best[1]
