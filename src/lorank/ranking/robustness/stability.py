r"""How far ranked lists and their quality move.

    drop rate = (m' - m) / m        RLS = mean over users (queries) of RBO or Jaccard (`lorank.ranking.metrics.overlap`)

The rank list sensitivity is 1 where nothing moved, and the lower the more the lists did.

Paper: S. Oh et al., Rank List Sensitivity of Recommender Systems to Interaction Perturbations, CIKM 2022.

*Deviations*: the published code of the latter calls a package's RBO at p = 1 over whole lists; that is p = 1 here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.metrics.overlap import jaccard, rank_biased_overlap
from lorank.ranking.types import Run, order_documents


def drop_rate(after: float, before: float) -> float:
    """Return (after - before) / before, the relative change of a measure; 0 where both are 0.

    >>> round(drop_rate(0.3, 0.4), 4), drop_rate(0.4, 0.4)
    (-0.25, 0.0)
    """
    if before == 0:
        return 0.0
    return (after - before) / before


@dataclass(frozen=True)
class ListChange:
    """How far the lists of a run moved: mean RBO at p = 0.9, mean Jaccard of the first ten, and the share of queries
    whose first document changed."""

    rbo: float
    jaccard: float
    first_changed: float


def compare_lists(before: Run, after: Run) -> ListChange:
    """Return how far the lists of the queries of ``before`` moved.

    >>> compare_lists({"q": {"a": 2.0, "b": 1.0}}, {"q": {"a": 9.0, "b": 1.0}})
    ListChange(rbo=1.0, jaccard=1.0, first_changed=0.0)
    """
    if not before:
        raise UsageError("there is no query to compare the lists of")
    pairs = [(order_documents(row), order_documents(after.get(query, {}))) for query, row in before.items()]
    return ListChange(
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
