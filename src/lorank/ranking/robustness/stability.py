r"""How far ranked lists and their quality move.

    drop rate  (m' - m) / m        RBO_p(A, B) = (1 - p) / (1 - p^n) \sum_{d=1}^{n} p^{d-1} |A_d \cap B_d| / d
    Jaccard@k  |A_k \cap B_k| / |A_k \cup B_k|        RLS = mean over users (queries) of RBO or Jaccard

RBO is taken over the n places that there are and scaled so that equal lists have exactly 1; p = 1 gives the average
overlap. The rank list sensitivity is 1 where nothing moved, and the lower the more the lists did.

Paper: W. Webber, A. Moffat and J. Zobel, A Similarity Measure for Indefinite Rankings, 2010; S. Oh et al., Rank List
Sensitivity of Recommender Systems to Interaction Perturbations, CIKM 2022.

*Deviations*: the published code of the latter calls a package's RBO at p = 1 over whole lists; that is p = 1 here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.types import Run


def drop_rate(after: float, before: float) -> float:
    """Return (after - before) / before, the relative change of a measure; 0 where both are 0.

    >>> drop_rate(0.3, 0.4), drop_rate(0.4, 0.4)
    (-0.25, 0.0)
    """
    if before == 0:
        return 0.0
    return round((after - before) / before, 12)


def rank_biased_overlap(first: Sequence[str], second: Sequence[str], persistence: float = 0.9) -> float:
    """Return the rank-biased overlap of two lists, 0 to 1; lists of different length are compared to the longer.

    Args:
        first: Ids, best first, each once.
        second: Ids, best first, each once.
        persistence: p, above 0 and at most 1: the smaller, the more the first places count.

    >>> rank_biased_overlap("abc", "abc"), rank_biased_overlap("ab", "cd")
    (1.0, 0.0)
    """
    if not 0 < persistence <= 1:
        raise UsageError(f"the persistence of RBO lies above 0 and at most at 1, not at {persistence}")
    length = max(len(first), len(second))
    if not length:
        return 1.0
    seen_first: set[str] = set()
    seen_second: set[str] = set()
    total = weights = 0.0
    for depth in range(1, length + 1):
        seen_first.update(first[depth - 1 : depth])
        seen_second.update(second[depth - 1 : depth])
        weight = persistence ** (depth - 1)
        total += weight * len(seen_first & seen_second) / depth
        weights += weight
    return total / weights


def jaccard(first: Sequence[str], second: Sequence[str], depth: int = 10) -> float:
    """Return the shared part of the first ``depth`` places of two lists; two empty lists share all.

    >>> round(jaccard("abcd", "abef", 4), 4)
    0.3333
    """
    one, other = set(first[:depth]), set(second[:depth])
    return len(one & other) / len(one | other) if one | other else 1.0


def best_first(row: Mapping[str, float]) -> list[str]:
    """Return the documents of a row, best first, ties by id descending."""
    return [document for document, _ in sorted(row.items(), key=lambda item: (item[1], item[0]), reverse=True)]


@dataclass(frozen=True)
class Moved:
    """How far the lists of a run moved: mean RBO at p = 0.9, mean Jaccard of the first ten, and the share of queries
    whose first document changed."""

    rbo: float
    jaccard: float
    first_changed: float


def compare_lists(before: Run, after: Run) -> Moved:
    """Return how far the lists of the queries of ``before`` moved.

    >>> compare_lists({"q": {"a": 2.0, "b": 1.0}}, {"q": {"a": 9.0, "b": 1.0}})
    Moved(rbo=1.0, jaccard=1.0, first_changed=0.0)
    """
    if not before:
        raise UsageError("there is no query to compare the lists of")
    pairs = [(best_first(row), best_first(after.get(query, {}))) for query, row in before.items()]
    return Moved(
        float(np.mean([rank_biased_overlap(a, b) for a, b in pairs])),
        float(np.mean([jaccard(a, b) for a, b in pairs])),
        float(np.mean([a[:1] != b[:1] for a, b in pairs])),
    )


def rank_list_sensitivity(
    before: Mapping[str, Sequence[str]], after: Mapping[str, Sequence[str]], measure: str = "rbo", depth: int = 10
) -> float:
    """Return RLS: the mean over users of the likeness of their lists, 1 where no list moved.

    Args:
        before: The list of each user, best first.
        after: The same users' lists afterwards; a user without one has an empty list.
        measure: ``rbo`` (p = 1 over whole lists) or ``jaccard`` (of the first ``depth`` places).
        depth: How many places ``jaccard`` looks at, 1 or more.

    >>> rank_list_sensitivity({"u": ["a", "b"]}, {"u": ["a", "b"]})
    1.0
    """
    if measure not in ("rbo", "jaccard"):
        from lorank.errors import unknown_name

        raise unknown_name("measure of lists", measure, ("rbo", "jaccard"))
    if not before:
        raise UsageError("there is no user to compare the lists of")
    values = [
        rank_biased_overlap(row, after.get(user, ()), 1.0)
        if measure == "rbo"
        else jaccard(row, after.get(user, ()), depth)
        for user, row in before.items()
    ]
    return float(np.mean(values))
