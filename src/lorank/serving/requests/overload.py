"""Refusals with a Retry-After, and the clients that do not wait for it.

A request that is refused with 429 has been read and counted by then, which costs more than the refusal. Until its
Retry-After has passed, a request of the same key that is no smaller is refused without being read, and its answer is
held for a moment, so that a client that asks again at once in many threads takes next to nothing from its neighbours.
"""

import time

from lorank.serving.requests.rate import Clock
from lorank.serving.requests.refusal import Refusal

HOLD_S = 1.0
"""Seconds for which the refusal of a client that did not wait is held."""


class Overloads:
    """The refusals with 429 that still hold, by the name of the key.

    >>> now = [0.0]
    >>> overloads = Overloads(clock=lambda: now[0])
    >>> overloads.note("acme", 5000, Refusal(429, "busy", "8 s of work wait already", 4.0))
    >>> overloads.of("acme", 6000).retry_s, overloads.of("acme", 10), overloads.of("globex", 6000)
    (4.0, None, None)
    >>> now[0] = 3.0
    >>> overloads.of("acme", 6000).retry_s
    1.0
    >>> now[0] = 4.0
    >>> overloads.of("acme", 6000) is None
    True
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self.clock = clock
        self._held: dict[str, tuple[float, int, Refusal]] = {}

    def note(self, tenant: str, size: int, refusal: Refusal) -> None:
        """Remember that a tenant's request of ``size`` bytes was refused, until the refusal's Retry-After has passed.

        Refusals of other statuses, and those that name no time, are not remembered.
        """
        if refusal.status == 429 and refusal.retry_after is not None:
            self._held[tenant] = (self.clock() + refusal.retry_after, size, refusal)

    def of(self, tenant: str, size: int) -> Refusal | None:
        """Return the refusal that still holds for a tenant's request of ``size`` bytes; None where none does."""
        until, least, refusal = self._held.get(tenant, (0.0, 0, None))
        left = until - self.clock()
        if refusal is None or left <= 0:
            self._held.pop(tenant, None)
            return None
        return Refusal(429, refusal.code, refusal.message, left) if size >= least else None
