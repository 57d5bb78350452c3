r"""Screening of clickbait: documents that are clicked more than what people find behind the click justifies.

With s-hat clicks over views and mu-hat the mean reward after a click, both with confidence bounds

    b(n) = \sqrt{ 2 \log(T) / n },

a document plays honestly if its click rate is at most s*(mu), here mu. It is eliminated for good once

    \hat s - b(views) > s*( \hat \mu + b(clicks) ),

and among the others the one of highest optimistic value (s-hat + b)(mu-hat + b) is shown.

Paper: T. Buening et al., Bandits Meet Mechanism Design to Combat Clickbait in Online Recommendation, ICLR 2024.

*Deviations*: reconstructed; s* is the identity by default, the paper leaves it to the platform's utility.
"""

from collections.abc import Callable

import numpy as np

from lorank.catalogue import catalogued
from lorank.errors import UsageError


@catalogued(
    "ucb-s-clickbait",
    area="bandit",
    title="Bandits Meet Mechanism Design to Combat Clickbait in Online Recommendation",
    reach="lorank clicks screen --log LOG; it chooses while it learns and no epochs are trained, so it has no recipe",
)
class ClickbaitScreen:
    """Counts of ``arms`` documents over at most ``rounds`` views; ``justified`` is s*.

    >>> screen = ClickbaitScreen(2, rounds=1000)
    >>> for _ in range(400): screen.update(0, True, 0.0)
    >>> screen.eliminated().tolist()
    [True, False]
    """

    def __init__(self, arms: int, *, rounds: int, justified: Callable[[np.ndarray], np.ndarray] | None = None) -> None:
        if arms < 1 or rounds < 2:
            raise UsageError(f"arms is {arms} and rounds {rounds}; take 1 or more, and 2 or more")
        self.level = 2 * np.log(rounds)
        self.justified = justified or (lambda mu: mu)
        self.views, self.clicks, self.rewards = np.zeros(arms), np.zeros(arms), np.zeros(arms)
        self.out = np.zeros(arms, bool)

    def update(self, arm: int, clicked: bool, reward: float = 0.0) -> None:
        """Count a view of a document, its click, and the reward after it, from 0 to 1."""
        if not 0 <= reward <= 1:
            raise UsageError(f"the reward is {reward}; it is from 0 to 1")
        self.views[arm] += 1
        if clicked:
            self.clicks[arm] += 1
            self.rewards[arm] += reward

    def _bounds(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        seen, clicked = np.maximum(self.views, 1), np.maximum(self.clicks, 1)
        rate, reward = self.clicks / seen, self.rewards / clicked
        wide, wider = np.sqrt(self.level / seen), np.sqrt(self.level / clicked)
        return rate - wide, np.minimum(rate + wide, 1), np.where(self.clicks > 0, np.minimum(reward + wider, 1), 1.0)

    def eliminated(self) -> np.ndarray:
        """Return which documents are out, bool [arms]; once out, always out."""
        least, _, reward = self._bounds()
        self.out |= least > self.justified(reward)
        return self.out

    def choose(self) -> int | None:
        """Return the document to show, None where all are out."""
        out = self.eliminated()
        if out.all():
            return None
        _, rate, reward = self._bounds()
        return int(np.argmax(np.where(out, -np.inf, rate * reward)))
