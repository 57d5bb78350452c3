r"""Click models of the form P(c = 1) = theta a: an examination that depends on the place, times an attraction.

    P(E = 1 | c = 0) = theta (1 - a) / (1 - theta a),   P(A = 1 | c = 0) = a (1 - theta) / (1 - theta a)

are the posteriors of EM; after a click both are 1. A model says what the place is: the position (position-based), or
the position and that of the last click above (user browsing).

EM alone is slow where few pairs are seen at several places, since those alone separate theta from a. So two steps are
followed by one along their change (squared extrapolation),

    x' = x - 2 s r + s^2 v,   r = x_1 - x,   v = (x_2 - x_1) - r,   s = min(-1, -||r|| / ||v||)

with x all parameters, and by a step of EM from there; where the likelihood is lower then, s is halved towards -1, which
is x_2.

Paper: R. Varadhan, C. Roland, Simple and globally convergent methods for accelerating the convergence of any EM
algorithm, Scandinavian Journal of Statistics 2008.
"""

from abc import abstractmethod

import numpy as np

from lorank.ranking.clicks.core.model import LEAST, ClickModel, ratio
from lorank.ranking.clicks.core.sessions import Sessions

SHORTER = 5
"""How often a step along the change is made shorter where it leads down."""


class FactorModel(ClickModel):
    """Base of the factor models; ``examination`` float64 [places]."""

    examination: np.ndarray

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
        """Begin with examinations that fall with the position, and attractions of a half."""
        self.examination = np.full(self.count_places(sessions.positions), 0.5)
        grid = self.grid(sessions)
        depth = np.broadcast_to(np.arange(sessions.positions), grid.shape)
        self.examination[grid.reshape(-1)] = 1 / (1 + 0.1 * depth.reshape(-1))

    def improve(self, sessions: Sessions) -> None:
        """Take two steps of EM, and a third from where their change points to if that is no worse."""
        begun = self._values()
        self._step(sessions)
        first = self._values()
        self._step(sessions)
        second = self._values()
        change, turn = first - begun, second - 2 * first + begun
        if not np.abs(turn).sum() > 0:
            return
        reached = self.perplexity(sessions).log_likelihood
        along = min(-1.0, -float(np.linalg.norm(change) / np.linalg.norm(turn)))
        for _ in range(SHORTER):
            self._set((begun - 2 * along * change + along**2 * turn).clip(LEAST, 1 - LEAST))
            self._step(sessions)
            if self.perplexity(sessions).log_likelihood >= reached:
                return
            along = (along - 1) / 2
        self._set(second)

    def _values(self) -> np.ndarray:
        return np.concatenate([self.examination, self.attraction])

    def _set(self, values: np.ndarray) -> None:
        size = len(self.examination)
        self.examination, self.attraction = values[:size].copy(), values[size:].copy()

    def _step(self, sessions: Sessions) -> None:
        """Take one step of EM."""
        grid, mask = self.grid(sessions), sessions.mask
        theta, a = self.examination[grid], self.attraction[sessions.pairs]
        no = 1 - theta * a
        examined = np.where(sessions.clicks, 1.0, ratio(theta * (1 - a), no))
        attracted = np.where(sessions.clicks, 1.0, ratio(a * (1 - theta), no))
        weight = np.broadcast_to(sessions.counts[:, None], mask.shape)[mask]
        size = len(self.examination)
        yes, all_of = np.bincount(grid[mask], weight * examined[mask], size), np.bincount(grid[mask], weight, size)
        self.examination = np.where(all_of > 0, ratio(yes, all_of), self.examination)
        self.update_attraction(sessions, attracted, np.ones_like(attracted))
