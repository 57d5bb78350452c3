"""Vote'n'Rank: a leaderboard under every rule of social choice, and the task weights under which a system wins.

Tasks vote, systems stand: plurality, Dowdall, Borda, Baldwin, Copeland, minimax and threshold beside the mean, the
geometric mean and the optimality gap. A system that a weighting of the tasks can make win under a scoring rule has

    max_w min_j sum_t w_t (points_t(i) - points_t(j)) >= 0,   w in the simplex

a linear program; under Condorcet's rule the same with points_t(i) - points_t(j) = sign(i over j on t).
Rofin et al. 2023, Vote'n'Rank: Revision of Benchmarking with Social Choice Theory, EACL, arXiv 2210.05769.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from scipy.optimize import linprog

from lorank.catalogue import catalogued
from lorank.errors import LorankError, UsageError, unknown_name
from lorank.ranking.consensus.profile import Floats, Profile
from lorank.ranking.consensus.rules import Consensus, aggregate, find_rule

ORDINAL = ("plurality", "dowdall", "borda", "baldwin", "copeland", "minimax", "threshold")
CARDINAL = ("mean", "optimality-gap")
SCORING = ("plurality", "dowdall", "borda", "condorcet")


@catalogued(
    "vote-n-rank",
    area="aggregate",
    title="Vote'n'Rank: Revision of Benchmarking with Social Choice Theory",
    reach="`lorank aggregate --method all --table FILE`; merging orders is no training run, so it has no recipe",
)
def vote_n_rank(profile: Profile, rules: Sequence[str] | None = None) -> dict[str, Consensus]:
    """Return the consensus of a leaderboard under each rule; None takes all that its input allows.

    >>> from lorank.ranking.consensus import from_table
    >>> board = from_table({"t1": {"a": 9, "b": 8}, "t2": {"a": 7, "b": 6}, "t3": {"a": 1, "b": 90}})
    >>> results = vote_n_rank(board, ["mean", "copeland"])
    >>> results["mean"].order, results["copeland"].order
    (('b', 'a'), ('a', 'b'))
    """
    chosen = rules or (ORDINAL if profile.score is None else ORDINAL + CARDINAL)
    return {name: aggregate(profile, name) for name in chosen}


def winning_weights(
    profile: Profile, item: str, method: Literal["plurality", "dowdall", "borda", "condorcet"]
) -> tuple[Floats, float]:
    """Return the ballot weights [ballots], adding up to 1, under which ``item`` leads by most, and that lead.

    A lead below 0 says that no weighting makes the item win; 0 that it can share the first place at best.
    """
    if method not in SCORING:
        raise unknown_name("scoring rule", method, SCORING)
    if item not in profile.items:
        raise unknown_name("item", item, profile.items)
    if len(profile.items) < 2 or not profile.ballots:
        raise UsageError("winning takes at least two items and one ballot")
    leads = _leads(profile, profile.items.index(item), method)
    others, ballots = leads.shape
    found = linprog(
        np.r_[np.zeros(ballots), -1.0],
        A_ub=np.c_[-leads, np.ones(others)],
        b_ub=np.zeros(others),
        A_eq=np.r_[np.ones(ballots), 0.0][None],
        b_eq=[1.0],
        bounds=[(0, None)] * ballots + [(None, None)],
    )
    if not found.success:
        raise LorankError(f"the linear program of winning weights failed: {found.message}")
    return found.x[:-1], float(found.x[-1])


def _leads(profile: Profile, item: int, method: str) -> Floats:
    """Return by how much each ballot puts ``item`` before every other: float64 [items - 1, ballots]."""
    rows = []
    for ballot in range(profile.ballots):
        here = profile.ballot == ballot
        alone = replace(
            profile,
            ballot=np.zeros(here.sum(), np.int64),
            item=profile.item[here],
            level=profile.level[here],
            weight=np.ones(1),
            names=(),
            score=None if profile.score is None else profile.score[here],
        )
        if method == "condorcet":
            preferred = alone.preferences()
            rows.append(preferred[item] - preferred[:, item])
        else:
            points = find_rule(method)(alone)
            rows.append(points[item] - points)
    return np.delete(np.array(rows).T, item, axis=0)
