r"""How far two scorings of the same documents agree in their order; no judgments are needed.

    tau(q)      = (C - D) / sqrt((P - T_a) (P - T_b))        Kendall's tau-b over the P pairs of a query's documents
    overlap(q)  = |A_k \cap B_k| / k                          of the first k places
    move(q)     = max_d |rank_a(d) - rank_b(d)|
    flipped(I)  = share of pairs with gap_a in I that b orders the other way,   gap_a = |a_i - a_j| / spread_a(q)

A pair that one side ties is neither kept nor flipped. What a list's scores are spread by is their standard deviation.

Paper: M. Kendall, The Treatment of Ties in Ranking Problems, Biometrika 1945 (tau-b).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from lorank.errors import UsageError
from lorank.rank_correlation import compare_pairs, kendall_tau
from lorank.ranking.metrics.groups import group_tied_queries, grouped_interval, membership
from lorank.ranking.metrics.measures import per_query
from lorank.ranking.metrics.overlap import rank_biased_overlap
from lorank.ranking.types import Qrels, Run, order_documents

GAPS = (0.0, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, float("inf"))
"""The edges of the score gaps, in spreads of a list, by which flipped pairs are counted."""


@dataclass(frozen=True)
class Estimate:
    """A mean over queries with its 95 % interval."""

    mean: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class FlippedPairs:
    """The pairs whose gap lies from ``low`` to below ``high`` spreads: how many, and how many of them are flipped."""

    low: float
    high: float
    pairs: int
    flipped: int

    @property
    def share(self) -> float:
        """The share of the pairs that are flipped; 0 where there are none."""
        return self.flipped / self.pairs if self.pairs else 0.0


@dataclass(frozen=True)
class LargestMove:
    """The document that moved most, and where it stood in either list; places count from 1."""

    query: str
    document: str
    before: int
    after: int


@dataclass(frozen=True)
class Agreement:
    """How far two runs agree.

    Attributes:
        queries: The number of queries that both runs have, with two shared documents or more.
        left_out: The number of queries of either run that are not compared.
        documents: The number of compared query-document pairs.
        tau: Kendall's tau-b, -1 to 1.
        overlap: The shared part of the first ``depth`` places.
        rbo: The rank-biased overlap at p = 0.9.
        same_first: The share of queries whose first document is the same.
        mean_move: The mean over queries of the largest move, in places.
        largest_move: The largest move of all; None where nothing moved.
        flipped: Flipped pairs by the gap of the first run's scores.
        depth: The number of first places that the overlap looks at.
        measures: Measure to its means in both runs and to their difference, where there are judgments.
        groups: The number of independent groups of queries; None where there are no judgments.
    """

    queries: int
    left_out: int
    documents: int
    tau: Estimate
    overlap: Estimate
    rbo: Estimate
    same_first: float
    mean_move: float
    largest_move: LargestMove | None
    flipped: Sequence[FlippedPairs]
    depth: int
    measures: Mapping[str, "MeasuredChange"] = field(default_factory=dict)
    groups: int | None = None


@dataclass(frozen=True)
class MeasuredChange:
    """The mean of a measure in the first and in the second run, and the second's difference to the first."""

    first: float
    second: float
    difference: Estimate


def compare_runs(
    first: Run,
    second: Run,
    *,
    rng: np.random.Generator,
    depth: int = 10,
    qrels: Qrels | None = None,
    measures: Sequence[str] = ("nDCG@10",),
) -> Agreement:
    """Return how far two runs agree on the documents that both have scored.

    Args:
        first: The run that is compared with, whose score gaps are binned.
        second: The other run.
        rng: The source of the bootstrap's resamples.
        depth: The number of first places that the overlap looks at, 1 or more.
        qrels: Judgments, of some queries or all; None compares orders alone. Intervals are then over groups of
            queries that share a relevant document.
        measures: The measures that judgments are used for.

    Raises:
        UsageError: Where no query has two documents in both runs, for a depth below 1, and for a score that is not a
            number.

    >>> run = {"q": {"a": 3.0, "b": 2.0, "c": 1.0}}
    >>> agreement = compare_runs(run, {"q": {"a": 3.0, "b": 1.0, "c": 2.0}}, rng=np.random.default_rng(0))
    >>> round(agreement.tau.mean, 4), agreement.same_first, agreement.largest_move
    (0.3333, 1.0, LargestMove(query='q', document='b', before=2, after=3))
    """
    if depth < 1:
        raise UsageError(f"depth: the overlap looks at 1 place or more, not at {depth}")
    shared = {
        query: [document for document in order_documents(row) if document in second[query]]
        for query, row in first.items()
        if query in second
    }
    shared = {query: documents for query, documents in shared.items() if len(documents) > 1}
    if not shared:
        raise UsageError("the runs share no query with two documents or more, so there is no order to compare")
    rows = [_compare_list(query, documents, first[query], second[query], depth) for query, documents in shared.items()]
    groups = group_tied_queries({q: qrels[q] for q in shared if q in qrels} | _alone(shared, qrels)) if qrels else None
    member = membership(groups, list(shared)) if groups else np.arange(len(shared))

    def estimate(values: Sequence[float]) -> Estimate:
        return Estimate(float(np.mean(values)), grouped_interval(np.array(values), member, rng=rng))

    moves = [(abs(row.move.before - row.move.after), row.move) for row in rows]
    farthest = max(moves, key=lambda each: each[0])
    counts = np.sum([row.pairs for row in rows], axis=0)
    return Agreement(
        queries=len(rows),
        left_out=len(first.keys() | second.keys()) - len(rows),
        documents=sum(len(documents) for documents in shared.values()),
        tau=estimate([row.tau for row in rows]),
        overlap=estimate([row.overlap for row in rows]),
        rbo=estimate([row.rbo for row in rows]),
        same_first=float(np.mean([row.same_first for row in rows])),
        mean_move=float(np.mean([each[0] for each in moves])),
        largest_move=farthest[1] if farthest[0] else None,
        flipped=[
            FlippedPairs(low, high, int(pairs), int(flipped))
            for low, high, (pairs, flipped) in zip(GAPS, GAPS[1:], counts, strict=False)
        ],
        depth=depth,
        measures={} if not qrels else _measure(first, second, qrels, shared, measures, rng),
        groups=None if groups is None else int(member.max()) + 1,
    )


@dataclass(frozen=True)
class _ListAgreement:
    tau: float
    overlap: float
    rbo: float
    same_first: bool
    move: LargestMove
    pairs: np.ndarray
    """int64 [gaps, 2]: pairs, and flipped pairs."""


def _compare_list(
    query: str, documents: list[str], first: Mapping[str, float], second: Mapping[str, float], depth: int
) -> _ListAgreement:
    """Compare the scores of one query's shared documents, which come in the first run's order."""
    a, b = (np.array([row[document] for document in documents], np.float64) for row in (first, second))
    for scores in (a, b):
        if not np.isfinite(scores).all():
            bad = documents[int(np.flatnonzero(~np.isfinite(scores))[0])]
            raise UsageError(f"the score of query {query!r}, document {bad!r} is not a number")
    after = order_documents({document: second[document] for document in documents})
    place = {document: i for i, document in enumerate(after)}
    moved = max(range(len(documents)), key=lambda i: abs(i - place[documents[i]]))
    return _ListAgreement(
        kendall_tau(a, b),
        len(set(documents[:depth]) & set(after[:depth])) / min(depth, len(documents)),
        rank_biased_overlap(documents, after),
        documents[0] == after[0],
        LargestMove(query, documents[moved], moved + 1, place[documents[moved]] + 1),
        count_flipped_pairs(a, b),
    )


def count_flipped_pairs(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return how many pairs lie in each gap of ``GAPS`` and how many are flipped, int64 [gaps, 2].

    Args:
        first: The scores [n] whose gaps are taken, in their standard deviations; pairs that they tie do not count.
        second: The other scores [n].

    >>> count_flipped_pairs(np.array([3.0, 2.0, 1.0]), np.array([3.0, 1.0, 2.0])).tolist()
    [[0, 0], [0, 0], [0, 0], [0, 0], [0, 0], [2, 1], [1, 0]]
    """
    gaps, flipped = compare_pairs(first, second)
    spread = float(first.std()) or 1.0
    place = np.clip(np.searchsorted(GAPS, gaps / spread, side="right") - 1, 0, len(GAPS) - 2)
    size = len(GAPS) - 1
    return np.stack([np.bincount(place, minlength=size), np.bincount(place[flipped], minlength=size)], 1)


def _alone(queries: Mapping[str, object], qrels: Qrels) -> Qrels:
    """Return empty judgments for the queries that have none, so that each is a group of its own."""
    return {query: {} for query in queries if query not in qrels}


def _measure(
    first: Run,
    second: Run,
    qrels: Qrels,
    shared: Mapping[str, object],
    measures: Sequence[str],
    rng: np.random.Generator,
) -> dict[str, MeasuredChange]:
    """Return each measure in both runs over the queries that are compared and judged."""
    judged = {query: qrels[query] for query in shared if qrels.get(query)}
    if not judged:
        return {}
    member = membership(group_tied_queries(judged), list(judged))
    found = {}
    values = [per_query({q: run[q] for q in judged}, judged, list(measures)) for run in (first, second)]
    for measure in measures:
        a, b = (np.array([each[measure][query] for query in judged]) for each in values)
        change = Estimate(float((b - a).mean()), grouped_interval(b - a, member, rng=rng))
        found[measure] = MeasuredChange(float(a.mean()), float(b.mean()), change)
    return found
