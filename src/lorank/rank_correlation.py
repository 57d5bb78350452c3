"""Kendall's tau-b of two score vectors: the one implementation, for both wings.

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


def count_flipped(first: np.ndarray, second: np.ndarray) -> int:
    """Return how many pairs of two score vectors [n] are ordered the other way round; ties are neither.

    >>> count_flipped(np.array([3.0, 2.0, 1.0]), np.array([3.0, 1.0, 2.0]))
    1
    """
    flipped = 0
    for i in range(len(first) - 1):
        flipped += int((np.sign(first[i + 1 :] - first[i]) * np.sign(second[i + 1 :] - second[i]) < 0).sum())
    return flipped
