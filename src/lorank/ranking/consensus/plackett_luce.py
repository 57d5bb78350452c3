"""Plackett-Luce strengths by Hunter's MM iteration: a ranking is a sequence of choices among what is left.

    P(ranking) = prod_k pi_{i_k} / (pi_{i_k} + pi_{i_k+1} + ... + pi_{i_m})
    pi_i <- [a + wins_i] / [2 a / (pi_i + 1) + sum over choices c offered i of w_c / sum_{j in c} pi_j]

where wins_i is the weight of choices that i won and a the prior: a choice won and one lost against an item of
strength 1. The last place is no choice. Scores are log pi, with mean 0. Hunter 2004, MM algorithms for generalized
Bradley-Terry models, Annals of Statistics 32.

*Deviations*: tied items are each chosen from all that are not above them (Breslow's approximation); a tie at the
bottom says nothing, so a top-k list with the rest tied below is read exactly.
"""

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from lorank.errors import LorankError, UsageError
from lorank.ranking.consensus.bradley_terry import compared_groups, prior_shift
from lorank.ranking.consensus.profile import Floats, Integers, Profile
from lorank.ranking.consensus.rules import rule


class _Choices:
    """The ballots of one size: items [b, m], weights of choices [b, m] (0 for the bottom level), tie groups."""

    def __init__(self, items: Integers, levels: Integers, weights: Floats) -> None:
        self.items = items
        self.weights = np.where(levels == levels[:, -1:], 0.0, weights[:, None])
        place = np.broadcast_to(np.arange(items.shape[1]), items.shape)
        new = np.ones(items.shape, bool)
        new[:, 1:] = levels[:, 1:] != levels[:, :-1]
        self.first = np.maximum.accumulate(np.where(new, place, 0), axis=1)
        ends = np.ones(items.shape, bool)
        ends[:, :-1] = new[:, 1:]
        last = np.where(ends, place, items.shape[1])
        self.last = np.minimum.accumulate(last[:, ::-1], axis=1)[:, ::-1]

    def offered(self, pi: Floats) -> Floats:
        """Return for each place the weighted sum of 1 / (strength on offer) over the choices it was part of."""
        left = np.cumsum(pi[self.items][:, ::-1], axis=1)[:, ::-1]
        share = self.weights / np.take_along_axis(left, self.first, axis=1)
        return np.take_along_axis(np.cumsum(share, axis=1), self.last, axis=1)


@rule("plackett-luce", on_unit_scale=True)
def plackett_luce(
    profile: Profile, *, prior: float = 1.0, tolerance: float = 1e-10, max_iterations: int = 20_000
) -> Floats:
    """Return log strengths with mean 0, float64 [items].

    Args:
        profile: The ballots.
        prior: Choices won and lost, by every item, against an item of strength 1; 0 is maximum likelihood.
        tolerance: Stop when no strength changes by more than this part.
        max_iterations: Fail after so many.

    Raises:
        UsageError: ``prior=0`` and no maximum: some items always beat, or never meet, the rest.
    """
    if not 0 <= prior < np.inf:
        raise UsageError(f"prior is {prior}; it takes a number of choices from 0 up")
    n = len(profile.items)
    groups = [_Choices(items, levels, profile.weight[ballots]) for ballots, items, levels in profile.by_size()]
    wins = sum((np.bincount(g.items.ravel(), g.weights.ravel(), n) for g in groups), np.zeros(n))
    if prior == 0:
        _must_be_linked(profile)
    group = compared_groups(profile.pairs(), n)
    pi, change = np.ones(n), np.inf
    for _ in range(max_iterations):
        offered = sum((np.bincount(g.items.ravel(), g.offered(pi).ravel(), n) for g in groups), np.zeros(n))
        below = offered + 2 * prior / (pi + 1)
        moved = np.divide(wins + prior, below, out=np.ones(n), where=below > 0)
        if prior == 0:
            moved = moved / np.exp(np.log(moved).mean())
        else:
            moved = moved * np.exp(prior_shift(np.log(moved), group))
        change = float(np.max(np.abs(moved - pi) / pi, initial=0.0))
        pi = moved
        if change <= tolerance:
            return np.asarray(np.log(pi) - np.log(pi).mean(), np.float64)
    raise LorankError(
        f"Plackett-Luce did not settle in {max_iterations} iterations (change {change:.1e}); raise "
        "prior, tolerance or max_iterations"
    )


def _must_be_linked(profile: Profile) -> None:
    counts = profile.pairs()
    winner = np.concatenate([counts.first[counts.wins > 0], counts.second[counts.losses > 0]])
    loser = np.concatenate([counts.second[counts.wins > 0], counts.first[counts.losses > 0]])
    n = len(profile.items)
    graph = csr_array((np.ones(len(winner)), (winner, loser)), shape=(n, n))
    groups, _ = connected_components(graph, directed=True, connection="strong")
    if groups > 1:
        raise UsageError(
            f"no maximum likelihood: the items fall into {groups} groups of which some always beat, or "
            "never meet, the others; give a prior above 0"
        )
