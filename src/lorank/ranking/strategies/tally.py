"""From single comparisons to a score for each document."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from lorank.ranking.consensus.bradley_terry import fit
from lorank.ranking.consensus.markov import walk
from lorank.ranking.consensus.profile import Pairs


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
        return np.bincount(self.first, self.outcome, self.count) + np.bincount(
            self.second, 1 - self.outcome, self.count
        )

    def pairs(self) -> Pairs:
        """Return the wins and losses of each pair that was compared; a tie is half of each."""
        forth = self.first < self.second
        low, high = np.where(forth, self.first, self.second), np.where(forth, self.second, self.first)
        met, where = np.unique(low * self.count + high, return_inverse=True)
        won = np.where(forth, self.outcome, 1 - self.outcome)
        wins, losses = np.bincount(where, won, len(met)), np.bincount(where, 1 - won, len(met))
        return Pairs(met // max(self.count, 1), met % max(self.count, 1), wins, losses, np.zeros(len(met)))

    def appearances(self) -> np.ndarray:
        """Return int64 [count]: the comparisons that each document stood in."""
        return np.bincount(self.first, minlength=self.count) + np.bincount(self.second, minlength=self.count)


def additive(comparisons: Comparisons) -> np.ndarray:
    """Return wins less losses (Borda's count on comparisons); a document without comparisons has 0."""
    return 2 * comparisons.wins() - comparisons.appearances()


def winrate(comparisons: Comparisons) -> np.ndarray:
    """Return wins by comparisons; a document without comparisons has one half.

    >>> winrate(Comparisons.of_orders(4, [[2, 0, 3]])).tolist()
    [0.5, 0.5, 1.0, 0.0]
    """
    played = comparisons.appearances()
    return np.divide(comparisons.wins(), played, out=np.full(comparisons.count, 0.5), where=played > 0)


def pagerank(comparisons: Comparisons) -> np.ndarray:
    """Return the share of a walk from losers to those that beat them: ``consensus.markov.walk``."""
    return walk(comparisons.pairs(), comparisons.count)


def bradley_terry(
    comparisons: Comparisons, prior: float = 0.05, tolerance: float = 1e-6, max_iterations: int = 1000
) -> np.ndarray:
    """Return log strengths of Bradley and Terry's model: ``consensus.bradley_terry.fit``.

    The prior makes strengths finite and unique.
    Thousands of documents with few games each may not have settled after ``max_iterations``; their order has.

    Args:
        comparisons: The outcomes of the comparisons.
        prior: The number of games that each document won and lost against one of strength 1.
        tolerance: The derivative of the log likelihood, per game, at which the fit stops.
        max_iterations: The most iterations.

    Returns:
        The strengths, float64 [documents].
    """
    return fit(
        comparisons.pairs(),
        comparisons.count,
        prior=prior,
        tolerance=tolerance,
        max_iterations=max_iterations,
        settled=False,
    ).strengths


def greedy(comparisons: Comparisons) -> np.ndarray:
    """Return n, n - 1, ..., 1 in the order of Cohen, Schapire and Singer's greedy ordering.

    Each document's potential is its wins less its losses against those that are left; the one of largest potential is
    taken, and what it won is given back to those it beat. Ties go to the first document.

    >>> greedy(Comparisons.of_orders(4, [[2, 0, 3], [2, 1], [1, 0]])).tolist()
    [2.0, 3.0, 4.0, 1.0]
    """
    margins = 2 * comparisons.outcome - 1
    count = comparisons.count
    lead = csr_array(
        (
            np.concatenate([margins, -margins]),
            (
                np.concatenate([comparisons.first, comparisons.second]),
                np.concatenate([comparisons.second, comparisons.first]),
            ),
        ),
        shape=(count, count),
    ).tocsc()
    potential = np.asarray(lead.sum(axis=1), np.float64).ravel()
    scores, left = np.zeros(count), potential.copy()
    for place in range(count):
        taken = int(np.argmax(left))
        scores[taken] = count - place
        column = slice(lead.indptr[taken], lead.indptr[taken + 1])
        potential[lead.indices[column]] -= lead.data[column]
        left = np.where(scores > 0, -np.inf, potential)
    return scores


TALLIES: dict[str, Callable[[Comparisons], np.ndarray]] = {
    "additive": additive,
    "winrate": winrate,
    "pagerank": pagerank,
    "bradley-terry": bradley_terry,
    "greedy": greedy,
}
"""The ways to score documents by comparisons."""
