"""Queries that are not independent: groups of them, resampled and tested as wholes.

Queries that share relevant documents tend to be won or lost together; a test that takes each for a draw of its own
claims more than the data say. With groups, the bootstrap draws groups,

    mean* = sum_g n_g(drawn) S_g / sum_g n_g(drawn) C_g,    S_g, C_g: sum of values and number of queries of group g

and the randomisation test flips the sign of a group's summed difference.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.metrics.intervals import bootstrap_means, percentile
from lorank.ranking.types import Qrels

Groups = Mapping[str, str]
"""Query to the name of its group."""


def group_tied_queries(qrels: Qrels) -> dict[str, str]:
    """Return groups of queries that are tied, directly or by way of others, by a shared relevant document.

    A group is called by its first query.

    >>> group_tied_queries({"a": {"x": 1}, "b": {"x": 1, "y": 1}, "c": {"y": 2, "z": 0}, "d": {"z": 1}})
    {'a': 'a', 'b': 'a', 'c': 'a', 'd': 'd'}
    """
    parent = {query: query for query in qrels}

    def root(query: str) -> str:
        while parent[query] != query:
            parent[query] = parent[parent[query]]
            query = parent[query]
        return query

    order = {query: place for place, query in enumerate(qrels)}
    first: dict[str, str] = {}
    for query, judged in qrels.items():
        for document, relevance in judged.items():
            if relevance > 0:
                a, b = root(query), root(first.setdefault(document, query))
                older, younger = sorted((a, b), key=order.__getitem__)
                parent[younger] = older
    return {query: root(query) for query in qrels}


def membership(groups: Groups, queries: Sequence[str]) -> np.ndarray:
    """Return the group number of each query, int64 [queries]; UsageError for a query without a group."""
    missing = [query for query in queries if query not in groups]
    if missing:
        raise UsageError(f"groups lack {len(missing)} of {len(queries)} queries, such as {missing[0]!r}")
    return np.unique([groups[query] for query in queries], return_inverse=True)[1].reshape(-1)


def sums(values: np.ndarray, member: np.ndarray) -> np.ndarray:
    """Return the sum of ``values`` [queries, columns] over each group, [groups, columns]."""
    total = np.zeros((int(member.max()) + 1, values.shape[1]))
    np.add.at(total, member, values)
    return total


def grouped_bootstrap_means(
    values: np.ndarray, member: np.ndarray, *, rng: np.random.Generator, resamples: int = 10_000
) -> np.ndarray:
    """Return the means of ``values`` [queries, columns] over queries of resampled groups, [resamples, columns].

    Args:
        values: The values [queries, columns].
        member: The int64 [queries] group of each query, from 0.
        rng: The source of the resamples.
        resamples: The number of resamples, 1 or more.

    >>> means = grouped_bootstrap_means(np.ones((3, 1)), np.array([0, 0, 1]), rng=np.random.default_rng(0), resamples=2)
    >>> means.tolist()
    [[1.0], [1.0]]
    """
    counts = np.bincount(member)[:, None].astype(np.float64)
    drawn = bootstrap_means(np.hstack([sums(values, member), counts]), rng=rng, resamples=resamples)
    return np.asarray(drawn[:, :-1] / drawn[:, -1:])


def grouped_interval(
    values: np.ndarray,
    member: np.ndarray,
    *,
    rng: np.random.Generator,
    resamples: int = 10_000,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Return the bootstrap percentile interval, over groups, of the mean of ``values`` [queries].

    Args:
        values: The values [queries].
        member: The int64 [queries] group of each query, from 0.
        rng: The source of the resamples.
        resamples: The number of resamples, 1 or more.
        confidence: The share of the resampled means inside the interval, between 0 and 1.

    Returns:
        The lower and the upper bound.

    >>> grouped_interval(np.array([0.5, 0.5, 0.5]), np.array([0, 0, 1]), rng=np.random.default_rng(0))
    (0.5, 0.5)
    """
    means = grouped_bootstrap_means(values[:, None], member, rng=rng, resamples=resamples)[:, 0]
    return percentile(means, values, confidence)
