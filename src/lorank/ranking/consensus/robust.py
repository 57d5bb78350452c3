"""Robust consensus: near-ties are merged into buckets, so that a few bad ballots cannot turn the order.

The breakdown function of a consensus T at a profile P says how much of P must be replaced to move it by d:

    e(d) = min { TV(P, Q) : distance(T(P), T(Q)) >= d }

with TV the total variation (the share of ballots replaced) and Kendall's distance, in which a pair tied on one side
only counts 1/2. Kemeny's order breaks down at once where two items are near-tied. Downward merge starts from it:
while two neighbouring buckets are preferred one to the other by a share of at most 1/2 + t (the mean over their
pairs), the closest two become one bucket. Without near-ties the order is Kemeny's.

What it gains and what not: merging moves the place where an order is about to turn, from even pairs to pairs at
1/2 + t. A profile with a pair just beyond t can be merged by fewer ballots than it takes to turn Kemeny's order, so
e(d) is not larger than Kemeny's at every profile. Over all 792 profiles of 7 ballots on 3 items with t = .1, of those
that have a pair within t of even: for d = 1 it is larger at 17% and smaller at 2%, by one ballot; for d = 3 (all pairs
turn) it is larger at each of them and smaller nowhere. For d below 1 it cannot be larger, since two strict orders are
never that close while two bucket orders are.

Goibert, Calauzenes, Irurozki and Clemencon 2023, Robust Consensus in Ranking Data Analysis, ICML, arXiv 2303.12878.

*Deviations*: the rule that picks which buckets merge is written from the paper's idea (closest neighbours first, by
mean share); ties between equally close neighbours go to the better-placed.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy.optimize import linprog

from lorank.catalogue import catalogued
from lorank.errors import LorankError, UsageError
from lorank.ranking.consensus.kemeny import kemeny_order
from lorank.ranking.consensus.profile import Floats, Profile, from_rankings
from lorank.ranking.consensus.rules import aggregate, rule

_MOST_PROFILES = 200_000


@rule("robust-consensus", aliases=("downward-merge",))
@catalogued(
    "robust-consensus",
    area="aggregate",
    title="Robust Consensus in Ranking Data Analysis: Definitions, Properties and Computational Issues",
)
def downward_merge(profile: Profile, *, threshold: float = 0.05, exact_up_to: int = 12) -> Floats:
    """Return the number of buckets below each item's, float64 [items].

    ``threshold`` (t, from 0 to 1/2) is how far from even neighbours must be to stay apart: 0 merges exact ties only.
    """
    if not 0 <= threshold <= 0.5:
        raise UsageError(f"threshold is {threshold}; it takes 0 to 0.5")
    preferred = profile.preferences()
    met = preferred + preferred.T
    share = np.divide(preferred, met, out=np.full_like(met, 0.5), where=met > 0)
    buckets = [[int(item)] for item in kemeny_order(preferred, exact_up_to=exact_up_to)]
    while len(buckets) > 1:
        leads = [float(share[np.ix_(a, b)].mean()) for a, b in itertools.pairwise(buckets)]
        closest = int(np.argmin(np.round(leads, 12)))
        if leads[closest] > 0.5 + threshold + 1e-12:
            break
        buckets[closest : closest + 2] = [buckets[closest] + buckets[closest + 1]]
    scores = np.empty(len(preferred))
    for below, bucket in enumerate(reversed(buckets)):
        scores[bucket] = below
    return scores


def kendall_distance(one: Floats, other: Floats) -> float:
    """Return the pairs [items] ordered differently by two score vectors; tied in one only counts 1/2.

    >>> kendall_distance(np.array([3.0, 2.0, 1.0]), np.array([2.0, 2.0, 3.0]))
    2.5
    """
    signs = [np.sign(scores[:, None] - scores[None, :]) for scores in (one, other)]
    return float(np.abs(signs[0] - signs[1]).sum() / 4)


def kemeny_breakdown(profile: Profile, distance: float) -> float:
    """Return e(d) of the Kemeny median in [0, 1], by one linear program for each order at least ``distance`` away.

    The ballots must be complete strict orders of at most 5 items. The infimum over Q for which the far order is *a*
    median is taken, so at e(d) itself a tie may have to break its way. Infinity where no order is that far.
    """
    orders, given = _distribution(profile, most=5)
    far = np.array([[kendall_distance(one, other) for other in orders] for one in orders])
    n = len(profile.items)
    median = np.empty(n)
    median[kemeny_order(profile.preferences())] = np.arange(n)[::-1]
    away = np.array([kendall_distance(median, order) for order in orders])
    costs = [_cheapest(far, given, target) for target in np.flatnonzero(away >= distance).tolist()]
    return min(costs, default=np.inf)


def _cheapest(far: Floats, given: Floats, target: int) -> float:
    """Return the least TV(P, Q) for which order ``target`` is a median of Q: min sum u, u >= Q - P, u >= 0."""
    count = len(given)
    better = far[target][None, :] - far
    found = linprog(
        np.r_[np.zeros(count), np.ones(count)],
        A_ub=np.block([[better, np.zeros((count, count))], [np.eye(count), -np.eye(count)]]),
        b_ub=np.r_[np.zeros(count), given],
        A_eq=np.r_[np.ones(count), np.zeros(count)][None],
        b_eq=[1.0],
        bounds=(0, None),
    )
    if not found.success:
        raise LorankError(f"the breakdown's linear program failed: {found.message}")
    return float(found.fun)


def breakdown(profile: Profile, distance: float, method: str = "robust-consensus", **options: Any) -> float:
    """Return the smallest share of ballots whose replacement moves a rule's order by ``distance``, by enumeration.

    Every profile with as many ballots is tried, nearest first: for small cases (3 items, some 15 ballots). Infinity
    where none moves it so far. Weights must be whole numbers and the ballots complete strict orders.

    Args:
        profile: The ballots, which are complete strict orders with whole weights.
        distance: The Kendall distance by which the order must move.
        method: The name of a rule.
        options: The options of the rule.

    Raises:
        UsageError: If the ballots or their weights are of another kind, or the items are too many.
    """
    orders, given = _distribution(profile, most=4)
    if (profile.weight != np.round(profile.weight)).any():
        raise UsageError("breakdown counts ballots; give weights that are whole numbers")
    voters = round(float(profile.weight.sum()))
    counts = np.round(given * voters).astype(np.int64)
    texts = [[profile.items[item] for item in np.argsort(-order)] for order in orders]
    order_of = _scorer(profile.items, texts, method, options)
    start = order_of(counts)
    for replaced, other in sorted(_replacements(counts, voters), key=lambda case: case[0]):
        if kendall_distance(start, order_of(np.array(other))) >= distance:
            return replaced / voters
    return np.inf


def _scorer(
    items: tuple[str, ...], texts: list[list[str]], method: str, options: dict[str, Any]
) -> Callable[[np.ndarray], Floats]:
    def scores(counts: np.ndarray) -> Floats:
        merged = aggregate(from_rankings(texts, counts.tolist(), items=items), method, **options)
        return np.array([merged.scores[name] for name in items])

    return scores


def _replacements(counts: np.ndarray, voters: int) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield (ballots replaced, counts) of every profile of ``voters`` ballots."""
    from math import comb

    kinds = len(counts)
    if comb(voters + kinds - 1, kinds - 1) > _MOST_PROFILES:
        raise UsageError(f"{voters} ballots over {kinds} orders are too many profiles to enumerate; use fewer")
    for bars in itertools.combinations(range(voters + kinds - 1), kinds - 1):
        ends = (-1, *bars, voters + kinds - 1)
        other = tuple(right - left - 1 for left, right in itertools.pairwise(ends))
        yield int(np.maximum(np.array(other) - counts, 0).sum()), other


def _distribution(profile: Profile, most: int) -> tuple[list[Floats], Floats]:
    """Return all strict orders as score vectors, and the share of ballots that each has."""
    n = len(profile.items)
    if not 2 <= n <= most:
        raise UsageError(f"there are {n} items; breakdown is computed for 2 to {most}")
    rows = np.arange(n)
    if (profile.sizes() != n).any() or (profile.level.reshape(-1, n) != rows).any() or profile.weight.sum() <= 0:
        raise UsageError("breakdown takes complete orders without ties")
    orders = list(itertools.permutations(range(n)))
    held = dict.fromkeys(orders, 0.0)
    for items, weight in zip(profile.item.reshape(-1, n).tolist(), profile.weight.tolist(), strict=True):
        held[tuple(items)] += weight
    scores = []
    for order in orders:
        score = np.empty(n)
        score[list(order)] = np.arange(n)[::-1]
        scores.append(score)
    share = np.array([held[order] for order in orders])
    return scores, share / share.sum()
