"""A token bucket: ``rate`` a second on average, ``burst`` at once."""

import time
from collections.abc import Callable

Clock = Callable[[], float]


class TokenBucket:
    """Holds at most ``burst`` tokens, and gains ``rate`` of them a second.

    A cost larger than the burst is taken from a full bucket, which then owes the rest: nothing is refused for ever.

    >>> now = [0.0]
    >>> bucket = TokenBucket(rate=2.0, burst=4.0, clock=lambda: now[0])
    >>> [bucket.take(2.0), bucket.take(2.0), bucket.take(2.0)]        # the third has to wait for 1 s
    [0.0, 0.0, 1.0]
    >>> now[0] = 1.0
    >>> bucket.take(2.0)
    0.0
    """

    def __init__(self, rate: float, burst: float, clock: Clock = time.monotonic) -> None:
        self.rate, self.burst, self.clock = rate, burst, clock
        self.level, self.at = burst, clock()

    def take(self, cost: float = 1.0) -> float:
        """Take ``cost`` tokens and return 0, or take nothing and return the seconds until they are there."""
        now = self.clock()
        self.level, self.at = min(self.burst, self.level + self.rate * (now - self.at)), now
        missing = min(cost, self.burst) - self.level
        if missing > 1e-9:
            return missing / self.rate
        self.level -= cost
        return 0.0
