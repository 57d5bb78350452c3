"""When a check that came to no end may be tried again: later each time, and never given up."""

import threading
import time
from dataclasses import dataclass

from lorank.serving.requests.rate import Clock

FIRST_S, MOST_S = 10.0, 600.0
"""Seconds until the second attempt; each further one comes after twice as long, up to the most."""
REMEMBERED = 10_000


@dataclass(frozen=True)
class Failure:
    """The last attempt: at which version of the files, how many in a row, why it failed, when the next may be."""

    version: str
    count: int
    reason: str
    again: float


class Backoff:
    """The failed attempts of each name; may be used from several threads.

    Args:
        first_s: Seconds until the second attempt.
        most_s: The most seconds between two attempts.
        clock: Seconds, from any beginning.

    >>> backoff = Backoff(first_s=10.0, most_s=25.0, clock=lambda: 0.0)
    >>> [backoff.fail("acme", "v1", "it hung") for _ in range(3)], backoff.left("acme", "v2")
    ([10.0, 20.0, 25.0], 0.0)
    """

    def __init__(self, first_s: float = FIRST_S, most_s: float = MOST_S, clock: Clock = time.monotonic) -> None:
        self.first_s, self.most_s, self.clock = first_s, most_s, clock
        self._failures: dict[str, Failure] = {}
        self._lock = threading.Lock()

    def fail(self, name: str, version: str, reason: str) -> float:
        """Note a failed attempt at a version and return the seconds until the next; another version begins anew."""
        with self._lock:
            before = self._failures.pop(name, None)
            count = before.count + 1 if before is not None and before.version == version else 1
            seconds = min(self.first_s * 2.0 ** min(count - 1, 60), self.most_s)
            if len(self._failures) >= REMEMBERED:
                self._failures.clear()
            self._failures[name] = Failure(version, count, reason, self.clock() + seconds)
            return seconds

    def left(self, name: str, version: str) -> float:
        """Return the seconds until the next attempt at a version, 0 where it may be made now."""
        failure = self._failures.get(name)
        return max(0.0, failure.again - self.clock()) if failure is not None and failure.version == version else 0.0

    def reason(self, name: str) -> str | None:
        """Return why the last attempt failed, None where it did not."""
        failure = self._failures.get(name)
        return None if failure is None else failure.reason

    def forget(self, name: str) -> None:
        """Forget the failures of a name: an attempt came to an end."""
        with self._lock:
            self._failures.pop(name, None)
