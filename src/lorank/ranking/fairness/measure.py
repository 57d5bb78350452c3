"""The registry of fairness measures: from who is protected, in the order of a ranking, to 0 (fair) up to 1."""

from collections.abc import Callable, Sequence

import numpy as np

from lorank.errors import UsageError, unknown_name

Measure = Callable[[np.ndarray], float]
"""``measure(protected bool [n], best first) -> float`` from 0 to 1."""

FAIRNESS_MEASURES: dict[str, Measure] = {}
"""Every measure by its name; `lorank.ranking.fairness.FAIRNESS_MEASURES` is this one, filled."""


def fairness_measure(name: str) -> Callable[[Measure], Measure]:
    """Decorate a function to enter it in ``FAIRNESS_MEASURES`` under ``name``."""

    def enter(function: Measure) -> Measure:
        FAIRNESS_MEASURES[name] = function
        return function

    return enter


def measure_fairness(name: str, protected: Sequence[bool] | np.ndarray) -> float:
    """Return a measure of a ranking, 0 to 1.

    Args:
        name: ``rnd``, ``rrd``, ``rkl``, ``exposure`` or ``attention``.
        protected: Whether each item is of the protected group, in the order of the ranking, best first.

    Raises:
        UsageError: For an unknown name, and a ranking that does not hold both groups.

    >>> measure_fairness("rnd", [True] * 10 + [False] * 10)
    1.0
    """
    from lorank.ranking.fairness import FAIRNESS_MEASURES as FILLED

    if name not in FILLED:
        raise unknown_name("fairness measure", name, FILLED)
    order = np.asarray(protected, bool)
    if order.ndim != 1 or order.all() or not order.any():
        raise UsageError("a ranking must hold items of the protected group and others")
    found: Measure = FILLED[name]
    return found(order)
