"""Quality by groups of queries: who is served worse, with intervals.

The gap of a group is its mean minus the mean of all other queries; intervals resample the groups of queries that share
relevant documents, all groups of users at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.metrics.groups import group_tied_queries, membership
from lorank.ranking.types import Qrels


@dataclass(frozen=True)
class Gap:
    """A group's mean, its gap to all others with the 95 % interval, and the number of its queries."""

    mean: float
    gap: float
    interval: tuple[float, float]
    queries: int


def quality_gaps(
    values: Mapping[str, float],
    groups: Mapping[str, str],
    qrels: Qrels,
    *,
    rng: np.random.Generator,
    resamples: int = 2000,
) -> dict[str, Gap]:
    """Return the gap of each group of queries.

    Args:
        values: The value of each query, such as its nDCG@10.
        groups: The group of each query.
        qrels: The judgments, by which queries are tied for the resampling.
        rng: The source of the resamples.
        resamples: The number of resamples, 1 or more.

    Raises:
        UsageError: For queries without a group, and where there is one group only.

    >>> values, qrels = {"a": 1.0, "b": 0.0}, {"a": {"x": 1}, "b": {"y": 1}}
    >>> quality_gaps(values, {"a": "en", "b": "de"}, qrels, rng=np.random.default_rng(0))["de"].gap
    -1.0
    """
    names = list(values)
    missing = [query for query in names if query not in groups]
    if missing:
        raise UsageError(f"{len(missing)} of {len(names)} queries have no group, such as {missing[0]!r}")
    kinds = sorted({groups[query] for query in names})
    if len(kinds) < 2:
        raise UsageError("all queries are of one group; a gap is between two at least")
    member = membership(group_tied_queries({query: qrels[query] for query in names}), names)
    v = np.array([values[query] for query in names])
    inside = np.array([[groups[query] == kind for kind in kinds] for query in names], np.float64)
    count = int(member.max()) + 1
    sums, sizes = np.zeros((count, len(kinds))), np.zeros((count, len(kinds)))
    np.add.at(sums, member, inside * v[:, None])
    np.add.at(sizes, member, inside)
    times = rng.multinomial(count, np.full(count, 1 / count), size=resamples)
    drawn, drawn_sizes = times @ sums, times @ sizes
    found = {}
    for i, kind in enumerate(kinds):
        own, others = v[inside[:, i] > 0], v[inside[:, i] == 0]
        with np.errstate(invalid="ignore", divide="ignore"):
            gap = drawn[:, i] / drawn_sizes[:, i] - (drawn.sum(1) - drawn[:, i]) / (
                drawn_sizes.sum(1) - drawn_sizes[:, i]
            )
        low, high = (
            np.nanquantile(gap[np.isfinite(gap)], [0.025, 0.975]) if np.isfinite(gap).any() else (np.nan, np.nan)
        )
        found[kind] = Gap(float(own.mean()), float(own.mean() - others.mean()), (float(low), float(high)), len(own))
    return found
