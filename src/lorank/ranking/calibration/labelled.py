"""Scores with their labels: what a calibration is fitted to and measured on."""

from dataclasses import dataclass

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.metrics.groups import group_tied_queries
from lorank.ranking.types import Qrels, Run


@dataclass(frozen=True)
class Labelled:
    """Scores of n query-document pairs, and whether each document is relevant.

    ``scores`` float64 [n] are finite, ``relevant`` bool [n]; ``query`` int64 [n] numbers the query of each pair and
    ``group`` int64 [n] the group of queries that it belongs to, which are independent of each other.

    Raises:
        UsageError: For arrays of different lengths, and for scores that are not finite.
    """

    scores: np.ndarray
    relevant: np.ndarray
    query: np.ndarray
    group: np.ndarray

    def __post_init__(self) -> None:
        arrays = self.scores, self.relevant, self.query, self.group
        if len({np.shape(each) for each in arrays}) != 1 or np.ndim(self.scores) != 1:
            shapes = ", ".join(str(np.shape(each)) for each in arrays)
            raise UsageError(f"scores, labels, queries and groups must be arrays [n] of one length; got {shapes}")
        if not np.isfinite(self.scores).all():
            raise UsageError("a score is not finite; a calibration needs finite scores")

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def groups(self) -> int:
        """The number of independent groups."""
        return len(np.unique(self.group))

    @property
    def queries(self) -> int:
        """The number of queries."""
        return len(np.unique(self.query))

    def take(self, rows: np.ndarray) -> "Labelled":
        """Return the pairs at ``rows``, an index or a mask."""
        return Labelled(self.scores[rows], self.relevant[rows], self.query[rows], self.group[rows])

    def halves(self, rng: np.random.Generator) -> "tuple[Labelled, Labelled]":
        """Return two parts that share no group, each with half of the groups, drawn by ``rng``."""
        groups = np.unique(self.group)
        first = np.isin(self.group, rng.permutation(groups)[: (len(groups) + 1) // 2])
        return self.take(first), self.take(~first)


def of_pairs(scores: np.ndarray, relevant: np.ndarray) -> Labelled:
    """Return pairs of which each is a query and a group of its own.

    >>> of_pairs(np.array([0.5, 2.0]), np.array([False, True])).groups
    2
    """
    each = np.arange(len(scores))
    return Labelled(np.asarray(scores, np.float64), np.asarray(relevant, bool), each, each)


def of_run(run: Run, qrels: Qrels, *, grade: float = 1) -> Labelled:
    """Return the pairs of a run, labelled by judgments; a document that nobody judged counts as not relevant.

    Args:
        run: The scores of the documents of each query.
        qrels: The judgments; queries that share relevant documents make one group.
        grade: The least grade of a relevant document.

    Raises:
        UsageError: If the run holds no document of a judged query.

    >>> labelled = of_run({"q": {"a": 2.0, "b": 1.0}, "r": {"a": 0.5}}, {"q": {"a": 1}, "r": {"a": 1}})
    >>> labelled.relevant.tolist(), labelled.queries, labelled.groups
    ([True, False, True], 2, 1)
    """
    names = [query for query in qrels if run.get(query)]
    if not names:
        raise UsageError("no judged query has a scored document; give a split with judgments and candidates")
    tied = group_tied_queries({query: qrels[query] for query in names})
    number = {group: i for i, group in enumerate(dict.fromkeys(tied[query] for query in names))}
    rows = [
        (score, qrels[query].get(document, 0) >= grade, i, number[tied[query]])
        for i, query in enumerate(names)
        for document, score in run[query].items()
    ]
    scores, relevant, query, group = zip(*rows, strict=True)
    return Labelled(np.array(scores, np.float64), np.array(relevant), np.array(query), np.array(group))
