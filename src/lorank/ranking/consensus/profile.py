"""Profiles: what voters, runs, judges or tasks said about items, with ties, missing entries and weights.

A ballot is one voter's order of the items it speaks of: a ranking, one query of a run, one column of a score
table, or one duel (a ballot of two items; a draw is a tie). All ballots lie in one long table with a row for
each item that a ballot lists, so a hundred thousand duels cost as little as they should:

    ballot [rows]   which ballot, from 0, ascending
    item [rows]     which item, from 0
    level [rows]    0 for the ballot's best, 1 for the next, ...; equal levels are ties
    weight [ballots]

An item that a ballot does not list is *missing*: the ballot says nothing about it. ``with_missing_last`` reads
ballots the other way: what is not listed is tied below what is.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lorank.errors import UsageError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_PAIRS_AT_ONCE = 2_000_000


class Pairs(NamedTuple):
    """Counts of each pair that was compared, ``first < second``: all arrays are [pairs]."""

    first: Integers
    second: Integers
    wins: Floats
    losses: Floats
    draws: Floats


@dataclass(frozen=True, eq=False)
class Profile:
    """Weighted ballots over ``items``; build one with ``from_rankings``, ``from_duels``, ``from_table``, ...

    ``score`` [rows] holds the scores behind the levels where there are any; ``names`` names the ballots, or is
    empty. Rows are sorted by ballot, level and item.
    """

    items: tuple[str, ...]
    ballot: Integers
    item: Integers
    level: Integers
    weight: Floats
    score: Floats | None = None
    names: tuple[str, ...] = ()

    @property
    def ballots(self) -> int:
        """The number of ballots."""
        return len(self.weight)

    def sizes(self) -> Integers:
        """Return how many items each ballot lists, int64 [ballots]."""
        return np.bincount(self.ballot, minlength=self.ballots)

    def places(self) -> tuple[Integers, Integers, Integers]:
        """Return for each row how many items its ballot puts above, ties with, and puts below it: int64 [rows]."""
        if not len(self.ballot):
            return self.ballot, self.ballot, self.ballot
        sizes = self.sizes()
        begins = np.cumsum(sizes) - sizes
        new = np.ones(len(self.ballot), bool)
        new[1:] = (np.diff(self.ballot) != 0) | (np.diff(self.level) != 0)
        group = np.cumsum(new) - 1
        above = np.flatnonzero(new)[group] - begins[self.ballot]
        tied = np.bincount(group)[group] - 1
        return above, tied, sizes[self.ballot] - above - tied - 1

    def total(self, points: Floats) -> Floats:
        """Return the weighted sum over ballots of points [rows], for each item: float64 [items]."""
        return np.bincount(self.item, self.weight[self.ballot] * points, minlength=len(self.items))

    def by_size(self) -> Iterator[tuple[Integers, Integers, Integers]]:
        """Yield the ballots of each size m as (ballots [b], items [b, m], levels [b, m]), best first."""
        sizes = self.sizes()
        for size in np.unique(sizes[sizes > 0]):
            rows = np.flatnonzero(sizes[self.ballot] == size).reshape(-1, size)
            yield self.ballot[rows[:, 0]], self.item[rows], self.level[rows]

    def pairs(self) -> Pairs:
        """Return how often each pair was won, lost and drawn, by weight."""
        n = len(self.items)
        keys, values = [np.zeros(0, np.int64)], [np.zeros(0)]
        for key, value in self._outcomes(n):
            unique, where = np.unique(key, return_inverse=True)
            keys.append(unique)
            values.append(np.bincount(where, value))
        unique, where = np.unique(np.concatenate(keys), return_inverse=True)
        counts = np.bincount(where, np.concatenate(values), minlength=len(unique))
        pair, outcome = unique // 3, unique % 3
        compared, where = np.unique(pair, return_inverse=True)
        table = np.zeros((3, len(compared)))
        table[outcome, where] = counts
        return Pairs(compared // max(n, 1), compared % max(n, 1), *table)

    def _outcomes(self, n: int) -> Iterator[tuple[Integers, Floats]]:
        """Yield (3 (n first + second) + outcome, weight) of compared pairs, outcome 0 won, 1 lost, 2 drawn."""
        for ballots, items, levels in self.by_size():
            size = items.shape[1]
            upper, lower = np.triu_indices(size, 1)
            step = max(1, _PAIRS_AT_ONCE // max(1, len(upper)))
            for begin in range(0, len(ballots) if size > 1 else 0, step):
                part = slice(begin, begin + step)
                a, b = items[part][:, upper], items[part][:, lower]
                drawn = levels[part][:, upper] == levels[part][:, lower]
                outcome = np.where(drawn, 2, (a > b).astype(np.int64))
                key = 3 * (n * np.minimum(a, b) + np.maximum(a, b)) + outcome
                yield key.ravel(), np.broadcast_to(self.weight[ballots[part], None], key.shape).ravel()

    def preferences(self) -> Floats:
        """Return the weight of ballots that prefer i to j, a draw counting half each way: float64 [items, items].

        >>> from_rankings([["a", "b"], ["b", "a"], [["a", "b"]]]).preferences().tolist()
        [[0.0, 1.5], [1.5, 0.0]]
        """
        counts = self.pairs()
        table = np.zeros((len(self.items), len(self.items)))
        table[counts.first, counts.second] = counts.wins + counts.draws / 2
        table[counts.second, counts.first] = counts.losses + counts.draws / 2
        return table

    def with_missing_last(self) -> "Profile":
        """Return the profile in which every ballot ties the items it does not list below those it does.

        >>> from_rankings([["b"], ["a", "b", "c"]]).with_missing_last().level.tolist()
        [0, 1, 1, 0, 1, 2]
        """
        listed = np.zeros((self.ballots, len(self.items)), bool)
        listed[self.ballot, self.item] = True
        ballot, item = np.nonzero(~listed)
        bottom = np.zeros(self.ballots, np.int64)
        np.maximum.at(bottom, self.ballot, self.level + 1)
        score = None
        if self.score is not None:
            lowest = np.full(self.ballots, np.inf)
            np.minimum.at(lowest, self.ballot, self.score)
            lowest[np.isinf(lowest)] = 0.0
            score = np.concatenate([self.score, lowest[ballot]])
        return _sort(
            replace(
                self,
                ballot=np.concatenate([self.ballot, ballot]),
                item=np.concatenate([self.item, item]),
                level=np.concatenate([self.level, bottom[ballot]]),
                score=score,
            )
        )


def _sort(profile: Profile) -> Profile:
    rows = np.lexsort((profile.item, profile.level, profile.ballot))
    return replace(
        profile,
        ballot=profile.ballot[rows],
        item=profile.item[rows],
        level=profile.level[rows],
        score=None if profile.score is None else profile.score[rows],
    )


def _weights(weights: Sequence[float] | Floats | None, ballots: int) -> Floats:
    weight = np.ones(ballots) if weights is None else np.asarray(weights, np.float64)
    if weight.shape != (ballots,) or not np.isfinite(weight).all() or (weight < 0).any():
        raise UsageError(f"the weights do not fit {ballots} ballots; give one finite number from 0 up a ballot")
    return weight


def _index(mentioned: Iterable[str], items: Iterable[str] | None) -> dict[str, int]:
    names = sorted(set(mentioned) if items is None else set(items))
    for name in names:
        if not isinstance(name, str):
            raise UsageError(f"the item {name!r} is not a string; name items by strings")
    index = {name: place for place, name in enumerate(names)}
    if items is not None and (strange := sorted(set(mentioned) - set(names))):
        raise UsageError(f"ballots list {strange[0]!r}, which is not among the items")
    return index


def from_rankings(
    orders: Iterable[Sequence[Any]],
    weights: Sequence[float] | None = None,
    *,
    items: Iterable[str] | None = None,
    names: Sequence[str] = (),
) -> Profile:
    """Return the profile of rankings, best first.

    Args:
        orders: Each a sequence whose entries are items (strings) or groups of tied items (list, tuple, set).
        weights: One number from 0 up for each ranking, such as its number of voters; None is 1 each.
        items: All items, where some may be listed by nobody; None takes those that are listed.
        names: The voters' names, if they have any.

    Raises:
        UsageError: An item twice in one ranking, an item that is no string or not among ``items``, bad weights.

    >>> profile = from_rankings([["a", ["b", "c"]], ["c", "a"]], weights=[3, 1])
    >>> profile.items, profile.level.tolist()
    (('a', 'b', 'c'), [0, 1, 1, 0, 1])
    """
    ballots = [[(entry,) if isinstance(entry, str) else tuple(entry) for entry in order] for order in orders]
    rows = [
        (number, name, level)
        for number, groups in enumerate(ballots)
        for level, group in enumerate(groups)
        for name in group
    ]
    index = _index((name for _, name, _ in rows), items)
    seen: set[tuple[int, str]] = set()
    for number, name, _ in rows:
        if (number, name) in seen:
            raise UsageError(f"ranking {number + 1} lists {name!r} twice; list an item once a ranking")
        seen.add((number, name))
    return _sort(
        Profile(
            tuple(index),
            np.array([row[0] for row in rows], np.int64),
            np.array([index[row[1]] for row in rows], np.int64),
            np.array([row[2] for row in rows], np.int64),
            _weights(weights, len(ballots)),
            names=tuple(names),
        )
    )


def from_duels(
    duels: Iterable[tuple[Any, ...]], *, items: Iterable[str] | None = None, weights: Sequence[float] | None = None
) -> Profile:
    """Return the profile of duels, each ``(winner, loser)`` or ``(a, b, outcome)``, in the order played.

    ``outcome`` is 1 where a won, 0 where b won, 0.5 for a draw.

    Raises:
        UsageError: An item against itself, or another outcome.

    >>> from_duels([("a", "b"), ("b", "a", 0.5), ("a", "b", 0)]).preferences().tolist()
    [[0.0, 1.5], [1.5, 0.0]]
    """
    rows = [(*duel, 1) if len(duel) == 2 else duel for duel in duels]
    for number, (a, b, outcome) in enumerate(rows, 1):
        if a == b:
            raise UsageError(f"duel {number} sets {a!r} against itself")
        if outcome not in (0, 0.5, 1):
            raise UsageError(f"duel {number} has the outcome {outcome!r}; write 1, 0 or 0.5 for a draw")
    index = _index((name for row in rows for name in row[:2]), items)
    pair = np.array([(index[a], index[b]) for a, b, _ in rows], np.int64).reshape(-1, 2)
    outcome = np.array([row[2] for row in rows], np.float64)
    level = np.stack([outcome == 0, outcome == 1], axis=1).astype(np.int64)
    return _sort(
        Profile(
            tuple(index), np.repeat(np.arange(len(rows)), 2), pair.ravel(), level.ravel(), _weights(weights, len(rows))
        )
    )


def from_counts(items: Sequence[str], wins: Floats, draws: Floats | None = None) -> Profile:
    """Return the profile of pairwise counts: ``wins[i, j]`` of i against j, symmetric ``draws[i, j]``.

    >>> from_counts(["a", "b"], np.array([[0, 3], [1, 0]]), np.array([[0, 2], [2, 0]])).preferences().tolist()
    [[0.0, 4.0], [2.0, 0.0]]
    """
    wins = np.asarray(wins, np.float64)
    draws = np.zeros_like(wins) if draws is None else np.asarray(draws, np.float64)
    if wins.shape != (len(items), len(items)) or draws.shape != wins.shape:
        raise UsageError(f"wins {wins.shape} and draws {draws.shape} do not fit {len(items)} items")
    if (draws != draws.T).any() or wins.diagonal().any() or draws.diagonal().any():
        raise UsageError("draws must be symmetric, and no item meets itself: zeros on the diagonals")
    rows = [(items[i], items[j], 1, wins[i, j]) for i, j in zip(*np.nonzero(wins), strict=True)]
    rows += [(items[i], items[j], 0.5, draws[i, j]) for i, j in zip(*np.nonzero(np.triu(draws)), strict=True)]
    return from_duels([row[:3] for row in rows], items=items, weights=[row[3] for row in rows])


def from_table(
    table: Mapping[str, Mapping[str, float]],
    *,
    weights: Mapping[str, float] | None = None,
    lower_is_better: Iterable[str] = (),
    items: Iterable[str] | None = None,
) -> Profile:
    """Return the profile of scores ``{voter: {item: score}}``; equal scores are ties.

    Args:
        table: A voter is a run, a task, a judge, a grader; it may leave items out.
        weights: A voter's weight; None is 1 each.
        lower_is_better: The voters whose lower scores are better; their scores are negated.
        items: All items, where some may be scored by nobody.

    Raises:
        UsageError: A score that is not finite, or a name that is no voter.

    >>> profile = from_table({"CoLA": {"x": 75.5, "y": 75.3}, "RTE": {"x": 92.6}})
    >>> profile.names, profile.level.tolist(), profile.score.tolist()
    (('CoLA', 'RTE'), [0, 1, 0], [75.5, 75.3, 92.6])
    """
    index = _index((name for row in table.values() for name in row), items)
    names = tuple(table)
    for name in [*lower_is_better, *(weights or {})]:
        if name not in table:
            raise UsageError(f"{name!r} is not among the voters: {', '.join(names)}")
    columns: list[tuple[Integers, Integers, Floats]] = []
    for voter, row in table.items():
        score = np.array(list(row.values()), np.float64)
        if not np.isfinite(score).all():
            raise UsageError(f"{voter!r} gives a score that is NaN or infinite; leave the item out instead")
        score = -score if voter in lower_is_better else score
        level = np.unique(-score, return_inverse=True)[1].astype(np.int64)
        columns.append((np.array([index[name] for name in row], np.int64), level, score))
    sizes = [len(row) for row in table.values()]
    item, level, score = (
        [np.concatenate(part) for part in zip(*columns, strict=True)]
        if columns
        else [np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)]
    )
    weight = _weights([(weights or {}).get(name, 1.0) for name in names], len(names))
    return _sort(Profile(tuple(index), np.repeat(np.arange(len(names)), sizes), item, level, weight, score, names))
