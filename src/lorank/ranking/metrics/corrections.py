"""Corrections of p values for many comparisons: what is bounded is the chance of one false finding, or their share."""

from collections.abc import Callable, Sequence

import numpy as np

from lorank.ranking.metrics.significance import holm


def benjamini_hochberg(p: Sequence[float]) -> list[float]:
    r"""Return p values adjusted by Benjamini and Hochberg's step-up method, in the order given.

    With p_(1) <= ... <= p_(m):  adjusted p_(i) = \min_{j >= i} \min(1, m p_(j) / j).

    Of the findings at level q, the expected share of false ones is at most q where the tests are independent or
    positively dependent, as comparisons with one baseline on the same queries are.

    Args:
        p: The p values, each between 0 and 1.

    Returns:
        The adjusted values.

    Paper: Y. Benjamini and Y. Hochberg, Controlling the False Discovery Rate, 1995.

    >>> benjamini_hochberg([0.5, 0.25, 0.125])
    [0.5, 0.375, 0.375]
    """
    values = np.asarray(p, dtype=np.float64)
    if not len(values):
        return []
    order = np.argsort(-values, kind="stable")
    steps = np.minimum(1.0, values[order] * len(values) / np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum.accumulate(steps)
    return [float(value) for value in adjusted]


Correction = Callable[[Sequence[float]], list[float]]

CORRECTIONS: dict[str, Correction] = {"holm": holm, "bh": benjamini_hochberg}
"""Name to the correction; ``holm`` bounds the chance of any false finding, ``bh`` the share of false findings."""

CORRECTION_NAMES = {"holm": "Holm", "bh": "Benjamini-Hochberg"}
