"""How many candidates a reranker should score: its quality at every depth, where it stops gaining, what misleads it.

At depth K the first stage's K best documents are ordered by the reranker, and a measure is taken of that order. A
perfect reranker only gains with K; one whose errors are noise lets, among many documents, ever more irrelevant ones
past the relevant. With one relevant document of score N(1, s^2) among K - 1 of score N(0, s^2) the recall of the first
k is

    R@k = E_z P(B < k),   B ~ Binomial(K - 1, 1 - Phi((1 + s z) / s)),   z ~ N(0, 1),

which falls to 0 as K grows. The documents behind such a fall are often *phantom hits*: ranked first, judged
irrelevant or not at all, and without a word in common with the query.

Paper: Jacob et al., Drowning in Documents: Consequences of Scaling Reranker Inference, 2024.

*Deviations*: whether depth helps is decided by bootstrap intervals of paired differences over groups of queries that
share relevant documents.
"""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.ranking.metrics.groups import Groups, group_tied_queries, grouped_bootstrap_means, membership
from lorank.ranking.metrics.intervals import percentile
from lorank.ranking.metrics.measures import per_query
from lorank.ranking.types import Qrels, Run

_WORD = re.compile(r"\w\w+")


@dataclass(frozen=True)
class DepthPoint:
    """One measure at one depth: its mean, its interval, and the interval of its difference to the best depth."""

    depth: int
    mean: float
    low: float
    high: float
    below_best: tuple[float, float]


@dataclass(frozen=True)
class DepthStudy:
    """One measure's curve over depths.

    Attributes:
        measure: Its name.
        points: The reranker's, in order of depth.
        first_stage: The first stage's own mean, without reranking.
        ceiling: The mean of a perfect reranker at each depth.
        queries: The number of queries.
        groups: The number of independent groups that they form, None where each was taken as independent.
    """

    measure: str
    points: tuple[DepthPoint, ...]
    first_stage: float
    ceiling: tuple[float, ...]
    queries: int = 0
    groups: int | None = None

    @property
    def best(self) -> DepthPoint:
        """The depth of the highest mean, the smallest of equals."""
        return max(self.points, key=lambda point: (point.mean, -point.depth))

    @property
    def enough(self) -> int:
        """The smallest depth that is not distinguishable from the best: the interval of the difference holds 0."""
        return next(point.depth for point in self.points if point.below_best[1] >= 0)

    @property
    def harms(self) -> int | None:
        """The smallest depth beyond the best that is worse than it, or None."""
        return next(
            (point.depth for point in self.points if point.depth > self.best.depth and point.below_best[1] < 0), None
        )


@dataclass(frozen=True)
class PhantomHit:
    """A document among the reranker's first, not judged relevant, that shares no word with the query."""

    query: str
    document: str
    place: int
    first_stage_rank: int


@catalogued(
    "drowning-in-documents",
    area="evaluate",
    title="Drowning in Documents: Consequences of Scaling Reranker Inference",
    reach="`lorank depth`, and Python: a measurement has no recipe",
)
def depth_study(
    first_stage: Run,
    scores: Run,
    qrels: Qrels,
    depths: Sequence[int],
    measure: str = "R@10",
    *,
    seed: int = 0,
    resamples: int = 10_000,
    confidence: float = 0.95,
    groups: Groups | Literal["auto"] | None = "auto",
) -> DepthStudy:
    """Return a measure of the reranked first K documents, for each K of ``depths``.

    Args:
        first_stage: The candidates and their first-stage scores, as deep as the deepest of ``depths``.
        scores: The reranker's scores of the same documents.
        qrels: The judgments.
        depths: How many of the first documents are reranked, 1 or more each.
        measure: As ir_measures names it.
        seed: Of the resampling.
        resamples: Bootstrap samples.
        confidence: Of the intervals.
        groups: Query to group, resampled as wholes; ``auto`` ties queries that share relevant documents, None takes
            each query as independent.

    Raises:
        UsageError: For depths below 1, or a candidate that has no score.

    >>> first, labels = {"q": {"a": 3.0, "b": 2.0, "c": 1.0}}, {"q": {"b": 1}}
    >>> study = depth_study(first, {"q": {"a": 0.1, "b": 0.5, "c": 0.9}}, labels, [1, 2, 3], "R@1")
    >>> [point.mean for point in study.points], study.best.depth
    ([0.0, 1.0, 0.0], 2)
    """
    if not depths or min(depths) < 1:
        raise UsageError(f"depths are 1 or more, got {list(depths)}")
    ordered = {query: sorted(row, key=lambda d: (row[d], d), reverse=True) for query, row in first_stage.items()}
    for query, row in ordered.items():
        missing = next((d for d in row[: max(depths)] if d not in scores.get(query, {})), None)
        if missing is not None:
            raise UsageError(f"query {query!r}: candidate {missing!r} has no score; score the run to its full depth")
    depths = sorted(set(depths))
    values = np.stack(
        [
            _values({q: {d: scores[q][d] for d in row[:depth]} for q, row in ordered.items()}, qrels, measure)
            for depth in depths
        ],
        axis=1,
    )
    perfect = [
        _values(
            {q: {d: float(qrels.get(q, {}).get(d, 0)) for d in row[:depth]} for q, row in ordered.items()},
            qrels,
            measure,
        ).mean()
        for depth in depths
    ]
    best = int(np.argmax(values.mean(axis=0)))
    tied = group_tied_queries(qrels) if groups == "auto" else groups
    member = np.arange(len(values)) if tied is None else membership(tied, list(qrels))
    means = grouped_bootstrap_means(values, member, rng=np.random.default_rng(seed), resamples=resamples)
    points = []
    for place, depth in enumerate(depths):
        low, high = percentile(means[:, place], values[:, place], confidence)
        below = percentile(means[:, place] - means[:, best], values[:, place], confidence)
        points.append(DepthPoint(depth, float(values[:, place].mean()), low, high, below))
    own = _values(first_stage, qrels, measure).mean()
    found = None if tied is None else int(member.max()) + 1
    return DepthStudy(measure, tuple(points), float(own), tuple(map(float, perfect)), len(values), found)


def _values(run: Run, qrels: Qrels, measure: str) -> np.ndarray:
    return np.array(list(per_query(run, qrels, [measure])[measure].values()))


def phantom_hits(
    first_stage: Run,
    scores: Run,
    qrels: Qrels,
    queries: Mapping[str, str],
    texts: Mapping[str, str],
    top: int = 10,
    stop_words: Collection[str] = (),
) -> list[PhantomHit]:
    """Return the reranker's first ``top`` documents that are not judged relevant and share no word with the query.

    Words are runs of two or more letters or digits, in lower case, less ``stop_words``.

    Args:
        first_stage: The scores of the first stage.
        scores: The scores of the reranker.
        qrels: The judgments; a document is relevant above 0.
        queries: The text of each query id.
        texts: The text of each document id.
        top: The number of first documents that are looked at, 1 or more.
        stop_words: The words that do not count.

    >>> phantom_hits({"q": {"a": 2.0, "b": 1.0}}, {"q": {"a": 0.0, "b": 9.0}}, {"q": {"a": 1}}, {"q": "sort a list"},
    ...              {"a": "sorting and list", "b": "the moon"}, top=1)
    [PhantomHit(query='q', document='b', place=1, first_stage_rank=2)]
    """
    found = []
    for query, row in scores.items():
        asked = _words(queries[query], stop_words)
        given = sorted(first_stage[query], key=lambda d: (first_stage[query][d], d), reverse=True)
        rank = {document: place for place, document in enumerate(given, start=1)}
        first = sorted(row, key=lambda d: (row[d], d), reverse=True)[:top]
        found += [
            PhantomHit(query, document, place, rank[document])
            for place, document in enumerate(first, start=1)
            if qrels.get(query, {}).get(document, 0) <= 0 and not asked & _words(texts[document], stop_words)
        ]
    return found


def _words(text: str, stop_words: Collection[str]) -> set[str]:
    return {word for word in _WORD.findall(text.lower()) if word not in stop_words}


def predicted_recall(depth: int, top: int, noise: float, points: int = 400) -> float:
    """Return the equation's recall of one relevant document in the first ``top`` of ``depth``.

    Args:
        depth: The number of candidates, 1 or more.
        top: The number of first places, 1 or more.
        noise: The standard deviation, above 0, of the noise in a score.
        points: The number of points of the quadrature, of which at most 180 are used.

    >>> round(predicted_recall(1, 1, 0.5), 4), round(predicted_recall(2, 1, 1.0), 4)   # 1 and Phi(1 / sqrt(2))
    (1.0, 0.7602)
    """
    from scipy.special import ndtr
    from scipy.stats import binom

    z, weight = np.polynomial.hermite_e.hermegauss(min(points, 180))
    beaten = ndtr(-(1 + noise * z) / noise)
    return float(weight @ binom.cdf(top - 1, depth - 1, beaten) / math.sqrt(2 * math.pi))
