r"""Means of systems that were trained with several seeds: groups of queries and seeds both vary.

Another collection of the same kind would hold other groups, another training another seed. With S_g(s) the sum of a
system's values over the queries of group g at seed s, C_g the number of these queries, and m(s) = \sum_g S_g(s) /
\sum_g C_g, the estimate is the mean of m(s) over the seeds. A resample draws groups once for all systems, and within
each system its own seeds:

    m* = \sum_g n_g \sum_s w_s S_g(s) / \sum_g n_g C_g,   n: groups as drawn,  w: seeds as drawn, \sum_s w_s = 1.

A resample of k draws is narrower than it should be by \sqrt{(k - 1) / k}, which matters for 3 seeds; both levels'
deviations are therefore widened by the inverse, and the percentile interval by t_\nu / z, with \nu from
Satterthwaite's formula over both levels. Where some groups are much larger than others the interval of the bootstrap
holds the truth a little too seldom (in 90 to 94 of 100 cases at 95%); `randomization_interval` does not.

Papers: A. Owen, The pigeonhole bootstrap, 2007; T. Hesterberg, What Teachers Should Know About the Bootstrap, 2015
(the widened percentile interval); S. Hillis, A comparison of denominator degrees of freedom methods for multiple
observer ROC analysis, 2007 (the same two crossed levels, of readers and cases); G. Imbens and M. Kolesar, Robust
Standard Errors in Small Samples, 2016 (the variance and degrees for groups of unequal sizes).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lorank.ranking.metrics.groups import sums

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_CHUNK = 1 << 22


@dataclass(frozen=True)
class Spread:
    """How an estimate would vary: ``variance``, its parts ``of_groups`` and ``of_seeds``, and degrees of freedom.

    ``degrees`` are those of the t test. ``degrees_of_resamples`` widen a bootstrap interval: resampled groups of
    unequal sizes vary by themselves, so that G - 1 take the place of the fewer degrees of the variance over groups.
    """

    variance: float
    of_groups: float
    of_seeds: float
    degrees: float
    degrees_of_resamples: float

    @property
    def standard_error(self) -> float:
        """The square root of the variance."""
        return float(np.sqrt(self.variance))


@dataclass(frozen=True)
class _Seeds:
    variance: float
    interaction: float
    degrees: int


def _seed_part(values: Floats, member: Integers) -> _Seeds | None:
    """Return the variance of the mean over seeds, and the part of it that seeds and groups make together."""
    queries, seeds = values.shape
    if seeds < 2:
        return None
    means = values.mean(0)
    groups = int(member.max()) + 1
    centred = values - means
    rest = sums(centred - centred.mean(1, keepdims=True), member)
    scale = groups / max(1, groups - 1) / (seeds - 1) / seeds / queries**2
    return _Seeds(float(means.var(ddof=1)) / seeds, float((rest**2).sum()) * scale, seeds - 1)


def intraclass_correlation(values: Floats, member: Integers) -> float:
    """Return how much alike the ``values`` [queries] of a group are, from 0 to 1, by the analysis of variance.

    >>> intraclass_correlation(np.array([0.0, 0.0, 1.0, 1.0]), np.array([0, 0, 1, 1]))
    1.0
    """
    sizes = np.bincount(member).astype(np.float64)
    groups, queries = len(sizes), len(values)
    if groups < 2 or groups == queries:
        return 0.0
    means = np.bincount(member, values) / sizes
    between = float((sizes * (means - values.mean()) ** 2).sum()) / (groups - 1)
    within = float(((values - means[member]) ** 2).sum()) / (queries - groups)
    usual = (queries - float((sizes**2).sum()) / queries) / (groups - 1)
    total = between + (usual - 1) * within
    return min(1.0, max(0.0, (between - within) / total)) if total > 0 else 0.0


def _group_part(values: Floats, member: Integers) -> tuple[float, float]:
    r"""Return the variance of the mean of ``values`` [queries] over groups, and its degrees of freedom.

    With h_g the share of the queries in group g, D the mean, m_g the mean of a group, and v_g = r + (1 - r) / C_g the
    variance of m_g where r is the correlation within groups:

        A = \sum_g a_g h_g^2 (m_g - D)^2,   a_g = v_g / (v_g (1 - 2 h_g) + \sum_j h_j^2 v_j),

    which is unbiased under that model, as a large group draws D towards its own mean; for equal groups it is the plain
    estimate with G - 1 degrees. A is a quadratic form in the m_g, and its degrees are tr(Q)^2 / tr(Q^2).
    """
    sizes = np.bincount(member).astype(np.float64)
    share = sizes / len(values)
    alike = intraclass_correlation(values, member)
    v = alike + (1 - alike) / sizes
    d = share**2 * v / (v * (1 - 2 * share) + float((share**2 * v).sum()))
    variance = float((d * (np.bincount(member, values) / sizes - values.mean()) ** 2).sum())
    total, dv, hv, dhv = float(d.sum()), float((d * v).sum()), float((share**2 * v).sum()), float((d * share * v).sum())
    trace = dv - 2 * dhv + total * hv
    square = float((d * v) @ (d * v)) + 2 * float((d * d) @ v) * hv + (total * hv) ** 2
    square += -4 * float((d * d * share) @ (v * v)) + 2 * total * float((d * share**2) @ (v * v))
    square += 2 * dhv**2 - 4 * total * dhv * hv
    return variance, min(len(sizes) - 1.0, trace**2 / square)


def spread(first: Floats, member: Integers, second: Floats | None = None) -> Spread:
    r"""Return how the mean of ``first``, or its difference from that of ``second``, varies over groups and seeds.

    variance = A + \sum_x \max(0, B_x - I_x),   \nu = variance^2 / (A^2 / \nu_A + \sum_x B_x^2 / (S_x - 1)),

    where A is the variance over groups of the seeds' mean, with \nu_A degrees: G - 1 for groups of one size, and fewer
    where some groups hold much of the queries (Imbens and Kolesar). B_x is the variance over the S_x seeds of a system,
    and I_x what groups and seeds make together, which A holds already. A system with one seed has no B_x: its seeds'
    variance is not covered.

    Args:
        first: The values [queries, seeds] of a system.
        member: The int64 [queries] group of each query, from 0.
        second: The values [queries, seeds] of the other system, on the same queries; None for a single mean.

    Returns:
        The spread; infinite variance with one group, of which nothing can be estimated.

    >>> found = spread(np.array([[0.0], [1.0], [2.0]]), np.array([0, 1, 2]))
    >>> round(found.variance, 4), found.degrees   # variance 1 over 3 queries
    (0.3333, 2.0)
    """
    groups = int(member.max()) + 1
    if groups < 2:
        return Spread(np.inf, np.inf, 0.0, 0.0, 0.0)
    each = first.mean(1) if second is None else first.mean(1) - second.mean(1)
    a, degrees_of_groups = _group_part(each, member)
    parts = [part for x in (first, second) if x is not None and (part := _seed_part(x, member)) is not None]
    of_seeds = sum(max(0.0, part.variance - part.interaction) for part in parts)
    variance = a + of_seeds
    of_test, of_resamples = (_satterthwaite(variance, a, own, parts) for own in (degrees_of_groups, groups - 1.0))
    return Spread(variance, a, of_seeds, of_test, of_resamples)


def _satterthwaite(variance: float, of_groups: float, degrees: float, parts: Sequence[_Seeds]) -> float:
    """Return the degrees of a sum of variances, of which that over groups has ``degrees``; no fewer than the fewest."""
    below = of_groups**2 / degrees + sum(part.variance**2 / part.degrees for part in parts)
    found = variance**2 / below if below > 0 else degrees
    return max(found, min([degrees, *(float(part.degrees) for part in parts)]))


def hierarchical_bootstrap(
    systems: Sequence[Floats], member: Integers, *, rng: np.random.Generator, resamples: int = 10_000
) -> Floats:
    """Return the means of systems over resampled groups and, within each system, resampled seeds.

    Every system sees the same groups, so that a difference of two columns is paired; each draws its own seeds.

    Args:
        systems: The values [queries, seeds] of each system, with seeds of its own.
        member: The int64 [queries] group of each query, from 0.
        rng: The source of the resamples.
        resamples: The number of resamples, 1 or more.

    Returns:
        The means [resamples, systems].

    >>> rng = np.random.default_rng(0)
    >>> hierarchical_bootstrap([np.ones((3, 2))], np.array([0, 0, 1]), rng=rng, resamples=2).tolist()
    [[1.0], [1.0]]
    """
    counts = np.bincount(member).astype(np.float64)
    groups = len(counts)
    totals = np.hstack([sums(values, member) for values in systems])
    ends = np.cumsum([values.shape[1] for values in systems])
    spans = [slice(end - values.shape[1], end) for end, values in zip(ends, systems)]
    observed = totals.sum(0) / counts.sum()
    out = np.empty((resamples, len(systems)))
    step = max(1, _CHUNK // groups)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = rng.integers(groups, size=(rows, groups)) + groups * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * groups).reshape(rows, groups).astype(np.float64)
        means = (times @ totals) / (times @ counts)[:, None]
        for column, span in enumerate(spans):
            out[start : start + rows, column] = _with_seeds(means[:, span], observed[span], groups, rng)
    return out


def _with_seeds(means: Floats, observed: Floats, groups: int, rng: np.random.Generator) -> Floats:
    """Return means [resamples] over drawn seeds of ``means`` [resamples, seeds], each level's deviation widened."""
    rows, seeds = means.shape
    over_seeds, centre = means.mean(1), observed.mean()
    moved = centre + np.sqrt(groups / max(1, groups - 1)) * (over_seeds - centre)
    if seeds < 2:
        return np.asarray(moved)
    weights = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=rows) / seeds
    return np.asarray(moved + np.sqrt(seeds / (seeds - 1)) * ((weights * means).sum(1) - over_seeds))


def widened_interval(drawn: Floats, estimate: float, degrees: float, confidence: float = 0.95) -> tuple[float, float]:
    r"""Return the percentile interval, its ends moved from the estimate by t_\nu / z.

    Args:
        drawn: The resampled estimates [resamples].
        estimate: The estimate.
        degrees: \nu, above 0.
        confidence: The chance that the interval holds the true value, between 0 and 1.

    Returns:
        The lower and the upper bound.

    >>> widened_interval(np.full(5, 0.5), 0.5, 4.0)
    (0.5, 0.5)
    """
    from scipy.special import ndtri, stdtrit

    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    factor = float(stdtrit(degrees, 1 - tail) / ndtri(1 - tail))
    return float(estimate + factor * (low - estimate)), float(estimate + factor * (high - estimate))


def t_test_over_levels(estimate: float, found: Spread) -> float:
    """Return the two-sided p of the t test that a difference is 0, with the spread over groups and seeds.

    Without any spread p is 1 for a difference of 0 and 0 for another; with one group it is NaN.

    >>> t_test_over_levels(0.0, Spread(0.01, 0.01, 0.0, 9.0, 9.0))
    1.0
    """
    from scipy.special import stdtr

    if not np.isfinite(found.variance):
        return float("nan")
    error = found.standard_error
    if error <= 1e-12 * abs(estimate) or error == 0.0:  # exact: an error of 0 is that of values that are all equal
        return 1.0 if abs(estimate) <= 1e-12 else 0.0
    return float(2 * stdtr(found.degrees, -abs(estimate) / error))
