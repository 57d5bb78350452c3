r"""Click models of the form P(c = 1) = theta a: an examination that depends on the place, times an attraction.

    P(E = 1 | c = 0) = theta (1 - a) / (1 - theta a),   P(A = 1 | c = 0) = a (1 - theta) / (1 - theta a)

are the posteriors of EM; after a click both are 1. A model says what the place is: the position (position-based), or
the position and that of the last click above (user browsing).

What examination is, pairs say that were seen at several places, whatever their attraction is
(`lorank.ranking.clicks.core.contrast`), and where they link places, theta is theirs: EM fits attractions to it. EM of
both together has one attraction for every pair and few views of each, from which theta does not come out right however
long the log is (an incidental parameter): lists of ten that are each shown 50 times, a fifth of them with an exchange,
give a curve that is too flat by a third. Places that no pair links are left to EM.

Paper: J. Neyman, E. L. Scott, Consistent Estimates Based on Partially Consistent Observations, Econometrica 1948 (why
not EM of both).
"""

from abc import abstractmethod

import numpy as np

from lorank.ranking.clicks.core.contrast import contrast_places
from lorank.ranking.clicks.core.model import LEAST, ClickModel, ratio
from lorank.ranking.clicks.core.sessions import Sessions


class FactorModel(ClickModel):
    """Base of the factor models; ``examination`` float64 [places], ``linked`` bool [places] where pairs tell it."""

    examination: np.ndarray
    linked: np.ndarray

    @abstractmethod
    def places(self, state: np.ndarray, k: int) -> np.ndarray:
        """Return the number of the place of column ``k``, int64 [rows]."""

    @abstractmethod
    def count_places(self, positions: int) -> int:
        """Return how many places lists of ``positions`` documents have."""

    def start(self, rows: int) -> np.ndarray:
        """Return that there was no click."""
        return np.zeros(rows, np.int64)

    def probability(self, state: np.ndarray, k: int, pairs: np.ndarray) -> np.ndarray:
        """Return theta a."""
        chance: np.ndarray = self.examination[self.places(state, k)] * self.attraction[pairs]
        return chance

    def observe(
        self, state: np.ndarray, k: int, pairs: np.ndarray, clicks: np.ndarray, shown: np.ndarray
    ) -> np.ndarray:
        """Return the position of the last click, 0 for none."""
        return np.where(clicks, k + 1, state)

    def grid(self, sessions: Sessions) -> np.ndarray:
        """Return the number of each place of the sessions, int64 [n, k]."""
        found, state = np.zeros(sessions.pairs.shape, np.int64), self.start(len(sessions))
        for k in range(sessions.positions):
            found[:, k] = self.places(state, k)
            state = self.observe(state, k, sessions.pairs[:, k], sessions.clicks[:, k], sessions.mask[:, k])
        return found

    def initialise(self, sessions: Sessions) -> None:
        """Begin with what pairs at several places say, elsewhere with examinations that fall with the position, and
        with clicks per look as attractions."""
        self.examination = np.full(self.count_places(sessions.positions), 0.5)
        grid = self.grid(sessions)
        depth = np.broadcast_to(np.arange(sessions.positions), grid.shape)
        self.examination[grid.reshape(-1)] = 1 / (1 + 0.1 * depth.reshape(-1))
        found = contrast_places(sessions, grid, len(self.examination))
        self.linked = found.linked
        if self.linked.any():
            known = np.exp(found.peak - found.peak[self.linked].max())
            self.examination = np.where(self.linked, known, self.examination).clip(LEAST)
            self.update_attraction(sessions, sessions.clicks, self.examination[grid])

    def improve(self, sessions: Sessions) -> None:
        """Take one step of EM, which leaves the examination of linked places as it is."""
        grid, mask = self.grid(sessions), sessions.mask
        theta, a = self.examination[grid], self.attraction[sessions.pairs]
        no = 1 - theta * a
        examined = np.where(sessions.clicks, 1.0, ratio(theta * (1 - a), no))
        attracted = np.where(sessions.clicks, 1.0, ratio(a * (1 - theta), no))
        weight = np.broadcast_to(sessions.counts[:, None], mask.shape)[mask]
        size = len(self.examination)
        yes, all_of = np.bincount(grid[mask], weight * examined[mask], size), np.bincount(grid[mask], weight, size)
        learned = (all_of > 0) & ~self.linked
        self.examination = np.where(learned, ratio(yes, all_of), self.examination)
        self.update_attraction(sessions, attracted, np.ones_like(attracted))
