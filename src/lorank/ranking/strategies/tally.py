"""From single comparisons to a score for each document."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array


@dataclass(frozen=True)
class Comparisons:
    """Outcomes of comparisons between ``count`` documents.

    ``first`` and ``second`` int64 [m] are positions; ``outcome`` float64 [m] is 1 where the first won, 0 where the
    second did, and 0.5 for a tie.
    """

    count: int
    first: np.ndarray
    second: np.ndarray
    outcome: np.ndarray

    @classmethod
    def of_orders(cls, count: int, orders: Sequence[Sequence[int]]) -> "Comparisons":
        """Return the comparisons that orders of some of the documents imply: each beats all that follow it.

        >>> Comparisons.of_orders(4, [[2, 0, 3]]).first.tolist()
        [2, 2, 0]
        """
        first, second = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for order in orders:
            upper, lower = np.triu_indices(len(order), 1)
            places = np.asarray(order, np.int64)
            first.append(places[upper])
            second.append(places[lower])
        winners = np.concatenate(first)
        return cls(count, winners, np.concatenate(second), np.ones(len(winners)))

    def wins(self) -> np.ndarray:
        """Return float64 [count]: the wins of each document, ties half."""
        return (np.bincount(self.first, self.outcome, self.count)
                + np.bincount(self.second, 1 - self.outcome, self.count))

    def played(self) -> np.ndarray:
        """Return int64 [count]: the comparisons that each document stood in."""
        return np.bincount(self.first, minlength=self.count) + np.bincount(self.second, minlength=self.count)


def additive(comparisons: Comparisons) -> np.ndarray:
    """Return wins less losses (Borda's count on comparisons); a document without comparisons has 0."""
    return 2 * comparisons.wins() - comparisons.played()


def winrate(comparisons: Comparisons) -> np.ndarray:
    """Return wins by comparisons; a document without comparisons has one half.

    >>> winrate(Comparisons.of_orders(4, [[2, 0, 3]])).tolist()
    [0.5, 0.5, 1.0, 0.0]
    """
    played = comparisons.played()
    return np.divide(comparisons.wins(), played, out=np.full(comparisons.count, 0.5), where=played > 0)


def pagerank(comparisons: Comparisons, damping: float = 0.85, tolerance: float = 1e-12) -> np.ndarray:
    """Return the stationary probability of a walk from losers to those that beat them, by power iteration.

    p <- (1 - d)/n + d (p M + (p . sinks)/n), where M[i, j] is the share of i's losses that were to j.
    """
    count = comparisons.count
    losers = np.concatenate([comparisons.second, comparisons.first])
    winners = np.concatenate([comparisons.first, comparisons.second])
    weights = np.concatenate([comparisons.outcome, 1 - comparisons.outcome])
    lost = np.bincount(losers, weights, count)
    share = np.divide(weights, lost[losers], out=np.zeros_like(weights), where=lost[losers] > 0)
    flow = csr_array((share, (winners, losers)), shape=(count, count))
    rank = np.full(count, 1 / count)
    for _ in range(1000):
        moved = (1 - damping) / count + damping * (flow @ rank + rank[lost == 0].sum() / count)
        if np.abs(moved - rank).sum() < tolerance:
            break
        rank = moved
    return moved


def bradley_terry(comparisons: Comparisons, prior: float = 0.1, tolerance: float = 1e-6) -> np.ndarray:
    """Return log strengths of Bradley and Terry's model, P(i beats j) = s_i / (s_i + s_j).

    Each document also drew ``prior`` games with one of strength 1, so that strengths are finite and unique. The
    fixed point is Hunter's: s_i = (wins_i + prior/2) / (sum over i's games of 1/(s_i + s_j) + prior/(s_i + 1)).
    """
    strength = np.ones(comparisons.count)
    wins = comparisons.wins() + prior / 2
    for _ in range(1000):
        inverse = 1 / (strength[comparisons.first] + strength[comparisons.second])
        games = (np.bincount(comparisons.first, inverse, comparisons.count)
                 + np.bincount(comparisons.second, inverse, comparisons.count))
        moved = wins / (games + prior / (strength + 1))
        change = np.abs(np.log(moved / strength)).max(initial=0)
        strength = moved
        if change < tolerance:
            break
    return np.log(strength)


TALLIES: dict[str, Callable[[Comparisons], np.ndarray]] = {
    "additive": additive, "winrate": winrate, "pagerank": pagerank, "bradley-terry": bradley_terry,
}
"""The ways to score documents by comparisons."""
