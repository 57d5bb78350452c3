"""Multiwinner rules: k items out of many rankings, with at least so many of each group.

With b_v(i) the items that ballot v of weight w_v puts below i (ties half), a set S scores

    sntv                 sum_v w_v [S holds v's first]            (tied firsts share the vote)
    bloc                 sum_v w_v |S and v's first k|            (places shared by ties count in part)
    borda                sum_v w_v sum_{i in S} b_v(i)            (k-Borda)
    chamberlin-courant   sum_v w_v max_{i in S} b_v(i)

All are monotone and submodular, the first three additive. S must hold at least l_g items of group g. Where rankings are
biased against a group, such bounds can raise the score that S has by what the voters would say without the bias.
Greedily the item that adds most is taken among those after which the bounds can still be met. That is exact for
additive scores; for Chamberlin-Courant it reaches 1/2 of the best, and 1 - 1/e without bounds (Fisher, Nemhauser and
Wolsey 1978): the sets that can be completed form a matroid.

Boehmer, Celis, Huang, Mehrotra and Vishnoi 2023, Subset Selection Based On Multiple Rankings in the Presence of Bias,
ICML.

*Deviations*: ties are broken by the item's name. Ballots say nothing for items that they do not list.
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass

import numpy as np

from lorank.catalogue import catalogued
from lorank.errors import UsageError, unknown_name
from lorank.ranking.consensus.profile import Floats, Profile


@dataclass(frozen=True)
class Committee:
    """The ``items`` chosen, in the order taken, and the ``score`` of the set."""

    items: tuple[str, ...]
    score: float


@catalogued(
    "multiwinner-subset-bias",
    area="fair",
    title="Subset Selection Based On Multiple Rankings in the Presence "
    "of Bias: Effectiveness of Fairness Constraints for Multiwinner Voting Score Functions",
    reach="`lorank aggregate --choose 5 --rankings FILE`; a committee is no training run, so it has no recipe",
)
def select(
    profile: Profile,
    count: int,
    method: str = "chamberlin-courant",
    *,
    group_of: Mapping[str, Hashable] | None = None,
    at_least: Mapping[Hashable, int] | None = None,
) -> Committee:
    """Return ``count`` items by a multiwinner score, with at least ``at_least[g]`` of each group g.

    Args:
        profile: The rankings.
        count: How many items, from 1 to all.
        method: A name in ``SCORES``.
        group_of: The group of each item; needed for bounds, and each item is in one group.
        at_least: The lower bounds; groups without one have 0.

    Raises:
        UsageError: For an unknown score, or bounds that no set of ``count`` items meets.

    >>> from lorank.ranking.consensus import from_rankings
    >>> votes = from_rankings(["abc", "abc", "cab"])
    >>> select(votes, 2, "borda").items, select(votes, 2, "borda", group_of={"a": 1, "b": 1, "c": 2},
    ...                                         at_least={2: 1}).items
    (('a', 'b'), ('a', 'c'))
    """
    if method not in SCORES:
        raise unknown_name("multiwinner score", method, SCORES)
    if not 1 <= count <= len(profile.items):
        raise UsageError(f"{count} of {len(profile.items)} items cannot be chosen")
    bounds = {group: bound for group, bound in (at_least or {}).items() if bound > 0}
    group = [(group_of or {}).get(name) for name in profile.items]
    _check_bounds(bounds, group, count)
    values = SCORES[method](profile, count)
    return _greedy(profile, values, count, group, dict(bounds))


def set_score(profile: Profile, chosen: tuple[str, ...], method: str) -> float:
    """Return the score of a set of items."""
    if method not in SCORES:
        raise unknown_name("multiwinner score", method, SCORES)
    places = [profile.items.index(name) for name in chosen]
    return float(SCORES[method](profile, len(chosen))[:, places].max(axis=1, initial=0.0).sum())


def _greedy(
    profile: Profile, values: Floats, count: int, group: list[Hashable], need: dict[Hashable, int]
) -> Committee:
    taken: list[int] = []
    reached = np.zeros(len(values))
    open_items = sorted(range(len(profile.items)), key=lambda item: profile.items[item])
    for left in range(count, 0, -1):
        forced = sum(need.values()) == left
        allowed = [item for item in open_items if not forced or need.get(group[item], 0) > 0]
        gains = np.maximum(values[:, allowed] - reached[:, None], 0.0).sum(axis=0)
        item = allowed[int(np.argmax(gains))]
        reached = np.maximum(reached, values[:, item])
        taken.append(item)
        open_items.remove(item)
        if need.get(group[item], 0) > 0:
            need[group[item]] -= 1
    return Committee(tuple(profile.items[item] for item in taken), float(reached.sum()))


def _check_bounds(bounds: Mapping[Hashable, int], group: list[Hashable], count: int) -> None:
    for name, bound in bounds.items():
        if group.count(name) < bound:
            raise UsageError(f"group {name!r} has {group.count(name)} items, fewer than the {bound} wanted of it")
    if sum(bounds.values()) > count:
        raise UsageError(f"the bounds ask for {sum(bounds.values())} items, more than the {count} to choose")


def _points(profile: Profile, points: Floats) -> Floats:
    table = np.zeros((profile.ballots, len(profile.items)))
    table[profile.ballot, profile.item] = points * profile.weight[profile.ballot]
    return table


def _additive(table: Floats) -> Floats:
    """Return one row an item, which only that item reaches: the largest over a set of rows' sums is their sum."""
    return np.diag(table.sum(axis=0))


def _first_places(profile: Profile, places: int) -> Floats:
    above, tied, _ = profile.places()
    return _points(profile, np.clip((places - above) / (tied + 1), 0.0, 1.0))


def _borda(profile: Profile) -> Floats:
    _, tied, below = profile.places()
    return _points(profile, below + tied / 2)


SCORES: dict[str, Callable[[Profile, int], Floats]] = {
    "sntv": lambda profile, count: _additive(_first_places(profile, 1)),
    "bloc": lambda profile, count: _additive(_first_places(profile, count)),
    "borda": lambda profile, count: _additive(_borda(profile)),
    "chamberlin-courant": lambda profile, count: _borda(profile),
}
"""The scores: from the rankings and the number to choose to values [voices, items]; a set scores the sum over voices of
its largest value."""
