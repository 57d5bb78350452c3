r"""The interval that belongs to the randomisation test over groups: the differences that it does not reject.

With S_g the summed differences of group g and C_g its queries, N = \sum_g C_g, D = \sum_g S_g / N, the difference D + x
is rejected where few sign patterns e reach |\sum_g e_g (S_g - (D + x) C_g)| >= |x| N. With A = \sum_g e_g (S_g - D C_g)
and B = \sum_g e_g C_g a pattern reaches it for x > 0 up to

    A / (N + B) where A > 0,   -A / (N - B) where A < 0,

and for x < 0 with N + B and N - B exchanged. The bounds are the quantiles of these over the patterns, so that the
interval holds for groups of any sizes, as the test does, and agrees with its p.

Paper: P. Garthwaite, Confidence Intervals from Randomization Tests, 1996 (the inversion).
"""

from collections.abc import Iterator

import numpy as np

from lorank.ranking.metrics.groups import sums
from lorank.ranking.metrics.hierarchical import Floats, Integers
from lorank.ranking.metrics.significance import EXACT_UP_TO

_COLUMNS, _CHUNK = 64, 1 << 22


def randomization_interval(
    differences: Floats,
    member: Integers,
    *,
    rng: np.random.Generator,
    resamples: int = 10_000,
    confidence: float = 0.95,
) -> Floats:
    """Return the mean differences that the randomisation test over groups does not reject.

    Args:
        differences: The paired differences [queries, comparisons].
        member: The int64 [queries] group of each query, from 0.
        rng: The source of the sign patterns; with 16 groups or fewer all of them are taken.
        resamples: The number of patterns.
        confidence: 1 less the level of the test, between 0 and 1.

    Returns:
        The lower and the upper bounds [2, comparisons]; infinite where too few groups can reject anything.

    >>> each = np.linspace(-0.1, 0.3, 9)[:, None]
    >>> randomization_interval(each, np.arange(9), rng=np.random.default_rng(0)).round(2).tolist()
    [[-0.01], [0.21]]
    """
    sizes = np.bincount(member).astype(np.float64)
    mean = differences.mean(0)
    residual = sums(differences, member) - sizes[:, None] * mean
    exact = len(sizes) <= EXACT_UP_TO
    count = 2 ** len(sizes) if exact else resamples
    wanted = (1 - confidence) * count if exact else (1 - confidence) * (count + 1) - 1
    place = count - min(max(int(np.ceil(wanted)), 1), count)
    seed = int(rng.integers(2**62))
    bounds = np.empty((2, differences.shape[1]))
    for start in range(0, differences.shape[1], _COLUMNS):
        columns = slice(start, start + _COLUMNS)
        below, above = [], []
        for signs in _patterns(len(sizes), None if exact else np.random.default_rng(seed), count):
            a, b = signs @ residual[:, columns], signs @ sizes
            below.append(_reached(a, -b, len(differences)))
            above.append(_reached(a, b, len(differences)))
        bounds[0, columns] = mean[columns] - np.partition(np.concatenate(below), place, axis=0)[place]
        bounds[1, columns] = mean[columns] + np.partition(np.concatenate(above), place, axis=0)[place]
    return bounds


def _patterns(groups: int, rng: np.random.Generator | None, count: int) -> Iterator[Floats]:
    """Yield blocks of sign patterns [rows, groups]: all of them in turn where there is no ``rng``."""
    step = max(1, _CHUNK // groups)
    for start in range(0, count, step):
        rows = np.arange(start, min(start + step, count))
        bits = rows[:, None] >> np.arange(groups) & 1 if rng is None else rng.integers(2, size=(len(rows), groups))
        yield np.asarray(1.0 - 2.0 * bits, dtype=np.float64)


def _reached(a: Floats, b: Floats, queries: int) -> Floats:
    """Return up to which shift each pattern reaches the observed sum, [patterns, comparisons]."""
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = np.where(a > 0, a / (queries + b)[:, None], -a / (queries - b)[:, None])
    reach[np.abs(b) >= queries - 0.5] = np.inf
    return np.asarray(reach)
