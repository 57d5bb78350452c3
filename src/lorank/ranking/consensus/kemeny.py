"""Kemeny's rule: the order that disagrees with the fewest pairwise preferences (Kemeny 1959).

    cost(order) = sum over i placed before j of p_ji

with p_ji the weight of ballots that prefer j to i, a tie counting half. The majority graph is first cut into its
strongly connected components: every best order puts a component whole before those it beats (Truchon 1998), so
only cycles cost work. A component of m <= ``exact_up_to`` items is solved exactly over its 2^m subsets, a larger
one by moving single items until no move helps, from the order of Borda points.

Of several best orders the exact search takes the one that puts later ids first, so it does not depend on the order
of ballots; an order that is one of several best cannot be neutral. The score is the number of items placed below.
"""

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from lorank.errors import UsageError
from lorank.ranking.consensus.profile import Floats, Integers, Profile
from lorank.ranking.consensus.rules import TIE, rounding, rule


@rule("kemeny", aliases=("kemeny-young",))
def kemeny(profile: Profile, *, exact_up_to: int = 12) -> Floats:
    """Return the number of items that the Kemeny order puts below each item, float64 [items].

    ``exact_up_to`` is the largest cycle of majorities, in items, that is solved exactly (at most 18: 2^18 subsets).
    """
    order = kemeny_order(profile.preferences(), exact_up_to=exact_up_to)
    scores = np.empty(len(order))
    scores[order] = np.arange(len(order))[::-1]
    return scores


def kemeny_cost(preferred: Floats, order: Integers) -> float:
    """Return the weight of preferences [items, items] that ``order`` (item indices, best first) goes against.

    >>> kemeny_cost(np.array([[0.0, 2.0], [1.0, 0.0]]), np.array([0, 1]))
    1.0
    """
    return float(np.tril(preferred[np.ix_(order, order)], -1).sum())


def kemeny_order(preferred: Floats, *, exact_up_to: int = 12) -> Integers:
    """Return the Kemeny order of preferences [items, items] as item indices, best first."""
    if not 1 <= exact_up_to <= 18:
        raise UsageError(f"exact_up_to is {exact_up_to}; it takes 1 to 18 items")
    if not len(preferred):
        return np.zeros(0, np.int64)
    margins = preferred - preferred.T
    margins[np.abs(margins) <= TIE * (preferred + preferred.T)] = 0.0
    solve = {True: _exact, False: _local}
    parts = [part[solve[len(part) <= exact_up_to](margins[np.ix_(part, part)])] for part in _components(margins)]
    return np.concatenate(parts)


def _components(margins: Floats) -> list[Integers]:
    """Return the strongly connected components of the graph of strict majorities, those that win first."""
    count, label = connected_components(csr_array(margins > 0), directed=True, connection="strong")
    parts = [np.flatnonzero(label == part) for part in range(count)]
    if count == 1:
        return parts
    member = np.zeros((count, len(label)))
    member[label, np.arange(len(label))] = 1
    beats = (member @ (margins > 0) @ member.T > 0) & ~np.eye(count, dtype=bool)
    left, chosen = np.ones(count, bool), []
    while left.any():
        free = np.flatnonzero(left & ~beats[left].any(axis=0))
        first = max(free, key=lambda part: int(parts[part].max()))
        chosen.append(parts[first])
        left[first] = False
    return chosen


def _exact(margins: Floats) -> Integers:
    """Return the best order by dynamic programming over the sets of items already placed."""
    m = len(margins)
    against = np.maximum(-margins, 0.0)
    sets = np.arange(1 << m)
    placed_before = np.zeros((m, 1 << m))
    for j in range(m):
        placed_before[:, 1 << j : 2 << j] = placed_before[:, : 1 << j] + against[j][:, None]
    cost = np.full(1 << m, np.inf)
    cost[0] = 0.0
    last = np.zeros(1 << m, np.int64)
    members = np.zeros(1 << m, np.int64)
    for j in range(m):
        members[1 << j : 2 << j] = members[: 1 << j] + 1
    slack = rounding(m * m) * float(against.sum())
    for size in range(1, m + 1):
        here = sets[members == size]
        for item in range(m):
            within = here[(here >> item) & 1 == 1]
            before = within ^ (1 << item)
            offered = cost[before] + placed_before[item, before]
            better = offered < cost[within] - slack
            cost[within[better]], last[within[better]] = offered[better], item
    order, left = [], (1 << m) - 1
    while left:
        order.append(int(last[left]))
        left ^= 1 << order[-1]
    return np.array(order[::-1], np.int64)


def _local(margins: Floats) -> Integers:
    """Return an order that no move of a single item improves."""
    order = np.lexsort((-np.arange(len(margins)), -margins.sum(axis=1)))
    slack = rounding(len(margins)) * np.abs(margins).sum(axis=1).max(initial=0.0)
    improved = True
    while improved:
        improved = False
        for item in order.copy():
            place = int(np.flatnonzero(order == item)[0])
            rest = np.delete(order, place)
            lost_before = np.concatenate([[0.0], np.cumsum(margins[item, rest])])
            target = int(np.argmin(lost_before))
            if lost_before[target] < lost_before[place] - slack:
                order, improved = np.insert(rest, target, item), True
    return order
