r"""Dual averaging under delays: a step on whatever gradients have arrived, shorter the more are still missing.

    w_t = - \eta_t ( \sum_{s arrived} g_s + h_t ),   \eta_t = R / \sqrt{ 1 + \sum_{s arrived} ( |g_s|^2 + 2 |g_s| m_s )
    }

with m_s the sum of the norms of gradients that were missing when g_s was asked for. Without delays this is dual
averaging with
AdaGrad's step. The optimistic variant guesses h_t, what is missing, by the last gradient for each round that has not
arrived.

Paper: Y.-G. Hsieh et al., Multi-Agent Online Optimization with Delays: Asynchronicity, Adaptivity, and Optimism, JMLR
2022.

*Deviations*: one agent; m_s is bounded by the number of missing rounds times the largest norm so far.
"""

import numpy as np

from lorank.catalogue import catalogued
from lorank.errors import UsageError


@catalogued(
    "delayed-dual-averaging",
    area="bandit",
    title="Multi-Agent Online Optimization with Delays: Asynchronicity, Adaptivity, and Optimism",
    reach="lorank clicks online --log LOG --delay 20; a log is replayed once, so it has no recipe of epochs and dev",
)
class DelayedDualAveraging:
    """Weights [features] that are asked for by ``play`` and learn by ``receive``, in any order.

    >>> learner = DelayedDualAveraging(1)
    >>> round_, weights = learner.play()
    >>> learner.receive(round_, np.array([1.0])); learner.play()[1].round(4)
    array([-0.7071])
    """

    def __init__(self, features: int, *, radius: float = 1.0, optimistic: bool = False) -> None:
        if features < 1 or radius <= 0:
            raise UsageError(f"features is {features} and radius {radius}; both are above 0")
        self.radius, self.optimistic = radius, optimistic
        self.total, self.last = np.zeros(features), np.zeros(features)
        self.spread, self.largest, self.rounds = 1.0, 0.0, 0
        self.missing: dict[int, int] = {}

    def play(self) -> tuple[int, np.ndarray]:
        """Return the number of a new round and the weights for it."""
        guess = self.last * len(self.missing) if self.optimistic else 0.0
        self.rounds += 1
        self.missing[self.rounds] = len(self.missing)
        weights: np.ndarray = -self.radius / np.sqrt(self.spread) * (self.total + guess)
        return self.rounds, weights

    def receive(self, number: int, gradient: np.ndarray) -> None:
        """Take in the gradient of a round; raise UsageError for a round that is not outstanding."""
        if number not in self.missing:
            raise UsageError(f"round {number} was not played, or its gradient has arrived already")
        behind = self.missing.pop(number)
        size = float(np.linalg.norm(gradient))
        self.largest = max(self.largest, size)
        self.spread += size**2 + 2 * size * behind * self.largest
        self.total += gradient
        self.last = gradient
