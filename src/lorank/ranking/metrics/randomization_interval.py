r"""The interval that belongs to the randomisation test over groups: the differences that it does not reject.

With S_g the summed differences of group g and C_g its queries, N = \sum_g C_g, D = \sum_g S_g / N, the difference D + x
is rejected where few sign patterns e reach |\sum_g e_g (S_g - (D + x) C_g)| >= |x| N. With A = \sum_g e_g (S_g - D C_g)
and B = \sum_g e_g C_g a pattern reaches it for x > 0 up to

    A / (N + B) where A > 0,   -A / (N - B) where A < 0,

and for x < 0 with N + B and N - B exchanged. The bounds are the quantiles of these over the patterns, so that the
interval holds for groups of any sizes, as the test does, and agrees with its p.

Paper: P. Garthwaite, Confidence Intervals from Randomization Tests, 1996 (the inversion).
"""

import numpy as np

from lorank.ranking.metrics.groups import sums
from lorank.ranking.metrics.hierarchical import Floats, Integers
from lorank.ranking.metrics.significance import EXACT_UP_TO

_COLUMNS = 64


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
    signs = _patterns(len(sizes), rng, resamples, exact)
    b = signs @ sizes
    level = 1 - confidence
    place = int(np.ceil(level * len(signs))) if exact else int(np.ceil(level * (len(signs) + 1) - 1))
    place = min(max(place, 1), len(signs))
    bounds = np.empty((2, differences.shape[1]))
    for start in range(0, differences.shape[1], _COLUMNS):
        columns = slice(start, start + _COLUMNS)
        a = signs @ residual[:, columns]
        bounds[0, columns] = mean[columns] - _reached(a, -b, len(differences), place)
        bounds[1, columns] = mean[columns] + _reached(a, b, len(differences), place)
    return bounds


def _patterns(groups: int, rng: np.random.Generator, resamples: int, exact: bool) -> Floats:
    if exact:
        return np.asarray(1.0 - 2.0 * (np.arange(2**groups)[:, None] >> np.arange(groups) & 1))
    return np.asarray(1.0 - 2.0 * rng.integers(2, size=(resamples, groups)))


def _reached(a: Floats, b: Floats, queries: int, place: int) -> Floats:
    """Return the ``place``-th largest shift that a pattern reaches, for each comparison."""
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = np.where(a > 0, a / (queries + b)[:, None], -a / (queries - b)[:, None])
    reach[np.abs(b) >= queries - 0.5] = np.inf
    return np.asarray(np.partition(reach, len(a) - place, axis=0)[len(a) - place])
