r"""Click models in which the user goes down the list until she stops: one hidden chain, one exact EM.

    E_1 = 1,   P(c_k = 1 | E_k = 1) = a_k,   P(c_k = 1 | E_k = 0) = 0,   P(E_{k+1} = 1 | E_k = 1, c_k) = t_k(c_k)

The state of a session is e_k = P(E_k = 1 | c_1 ... c_{k-1}). After a click e_{k+1} = t_k(1), and after none

    e_{k+1} = t_k(0) e_k (1 - a_k) / (1 - e_k a_k).

A model says what t_k is. Backwards, B_k(1) = P(c_k ... c_K | E_k = 1) gives the posterior of every examination and
continuation, from which EM takes its counts.
"""

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np

from lorank.ranking.clicks.core.model import ClickModel, ratio
from lorank.ranking.clicks.core.sessions import Sessions


@dataclass(frozen=True)
class Posterior:
    """What the clicks say of the hidden chain: P(E_k = 1 | clicks) and P(E_k = E_{k+1} = 1 | clicks), both [n, k]."""

    examined: np.ndarray
    went_on: np.ndarray


class ChainModel(ClickModel):
    """Base of models with a chain; a position without a document is passed over like one without a click."""

    @abstractmethod
    def continuation(self, k: int, pairs: np.ndarray, clicked: bool) -> np.ndarray:
        """Return t_k(clicked) for ``pairs`` [rows]."""

    @abstractmethod
    def update_continuation(self, sessions: Sessions, posterior: Posterior) -> None:
        """Set what t depends on from expected counts."""

    def start(self, rows: int) -> np.ndarray:
        """Return that the first position is examined."""
        return np.ones(rows)

    def probability(self, state: np.ndarray, k: int, pairs: np.ndarray) -> np.ndarray:
        """Return e_k a_k."""
        chance: np.ndarray = state * self.attraction[pairs]
        return chance

    def observe(
        self, state: np.ndarray, k: int, pairs: np.ndarray, clicks: np.ndarray, shown: np.ndarray
    ) -> np.ndarray:
        """Return e_{k+1}."""
        attraction = np.where(shown, self.attraction[pairs], 0.0)
        skipped = ratio(state * (1 - attraction), 1 - state * attraction, 0.0) * self.continuation(k, pairs, False)
        return np.where(clicks, self.continuation(k, pairs, True), skipped)

    def posterior(self, sessions: Sessions) -> Posterior:
        """Return the posterior of the chain; 0 throughout where the model forbids a session."""
        rows, width = sessions.pairs.shape
        forward, state = np.zeros((rows, width)), self.start(rows)
        for k in range(width):
            forward[:, k] = state
            state = self.observe(state, k, sessions.pairs[:, k], sessions.clicks[:, k], sessions.mask[:, k])
        examined, went_on = np.zeros((rows, width)), np.zeros((rows, width))
        on, off = np.ones(rows), np.ones(rows)  # B_{k+1}(1), B_{k+1}(0)
        for k in reversed(range(width)):
            pairs, clicks = sessions.pairs[:, k], sessions.clicks[:, k]
            attraction = np.where(sessions.mask[:, k], self.attraction[pairs], 0.0)
            goes = np.where(clicks, self.continuation(k, pairs, True), self.continuation(k, pairs, False))
            ahead = goes * on + (1 - goes) * off
            share = ratio(goes * on, ahead, 0.0)
            here = np.where(clicks, attraction, 1 - attraction) * ahead
            away = np.where(clicks, 0.0, off)
            e = forward[:, k]
            examined[:, k] = ratio(e * here, e * here + (1 - e) * away, 0.0)
            went_on[:, k] = examined[:, k] * share
            on, off = here, away
        return Posterior(examined, went_on)

    def improve(self, sessions: Sessions) -> None:
        """Take one step of EM."""
        found = self.posterior(sessions)
        self.update_attraction(sessions, sessions.clicks * found.examined, found.examined)
        self.update_continuation(sessions, found)

    def initialise(self, sessions: Sessions) -> None:
        """Begin with even chances."""
