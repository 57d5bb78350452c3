"""Kendall's tau-b of two score vectors, and the pairs that they order: the one implementation, for both wings.

    tau-b = (C - D) / sqrt((P - T_a) (P - T_b))

C pairs are ordered alike, D the other way, of P pairs of which a ties T_a and b ties T_b.

M. Kendall, The Treatment of Ties in Ranking Problems, Biometrika 1945.
"""

import numpy as np
from scipy.stats import kendalltau


def kendall_tau(first: np.ndarray, second: np.ndarray) -> float:
    """Return Kendall's tau-b of two score vectors [n]; 1 where both tie all, 0 where one does.

    >>> round(kendall_tau(np.array([3.0, 2.0, 1.0]), np.array([3.0, 1.0, 2.0])), 4)
    0.3333
    """
    if not len(first) or (np.ptp(first) == 0 and np.ptp(second) == 0):
        return 1.0
    return float(np.nan_to_num(kendalltau(first, second).statistic))


def compare_pairs(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the gap in ``first`` of every pair that it does not tie, and whether ``second`` orders it the other way.

    Args:
        first: The scores [n] whose gaps count, 0 or more.
        second: The other scores [n]; a pair that they tie is not flipped.

    >>> compare_pairs(np.array([3.0, 2.0, 2.0]), np.array([1.0, 2.0, 0.0]))
    (array([1., 1.]), array([ True, False]))
    """
    upper = np.triu_indices(len(first), 1)
    gaps, others = (scores[upper[0]] - scores[upper[1]] for scores in (first, second))
    apart = gaps != 0
    return np.abs(gaps[apart]), (np.sign(gaps) * np.sign(others) < 0)[apart]


def count_flipped(first: np.ndarray, second: np.ndarray) -> int:
    """Return how many pairs of two score vectors [n] are ordered the other way round; ties are neither.

    >>> count_flipped(np.array([3.0, 2.0, 1.0]), np.array([3.0, 1.0, 2.0]))
    1
    """
    return int(compare_pairs(first, second)[1].sum())
