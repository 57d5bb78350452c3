"""The queue: lists that wait to be scored, served in turn, a slice at a time, short lists first.

A ring of callers, and a ring of requests for each: a turn takes one slice from one request, then both rings move on,
until the batch is full. So a caller with a hundred requests gets no more than one with a single request. There are two
such rings. Lists begin in that of the short ones; one that has had a whole batch goes to that of the long ones, which
get one slice of every batch, and what room the short ones leave in its first half: half batches keep newcomers waiting
for half as long. So a list of 50,000 documents advances in every batch, takes what nobody else wants, and holds nobody
up. (Multi-level feedback, Corbato et al. 1962, with two levels and a share for the lower.) All of it happens on the
event loop; there are no locks.
"""

import asyncio
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from lorank.serving.requests.engine import Job

SLICES = 4
"""A request takes at most this part of a batch in a turn."""
LONG_SHARE = 8
"""Long lists together get at least this part of every batch."""


@dataclass(eq=False)
class PendingList:
    """One list that waits.

    Args:
        caller: Whose turn it takes.
        job: What is to be scored.
        costs: Estimated tokens of each document, query included.
        deadline: By the event loop's clock.
        done: Slices scored, or the exception that ends the request.
    """

    caller: str
    job: Job
    costs: np.ndarray
    deadline: float
    done: "asyncio.Queue[Slice | Exception]" = field(default_factory=asyncio.Queue)
    at: int = 0
    gone: bool = False

    def __post_init__(self) -> None:
        self.ahead = np.concatenate([[0], np.cumsum(self.costs)])

    @property
    def left(self) -> int:
        """Estimated tokens of what was not yet taken."""
        return int(self.ahead[-1] - self.ahead[self.at])

    @property
    def had(self) -> int:
        """Estimated tokens of what was taken."""
        return int(self.ahead[self.at])

    def take(self, most: int) -> tuple[int, int]:
        """Take the next documents, as many as ``most`` tokens hold and at least one; return their range."""
        start = self.at
        self.at = max(start + 1, int(np.searchsorted(self.ahead, self.ahead[start] + most, side="right")) - 1)
        return start, self.at


@dataclass(frozen=True)
class Slice:
    """Documents ``start`` to ``stop`` of one waiting list, in a batch or scored."""

    start: int
    stop: int
    scores: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    cut: np.ndarray | None = None
    truncated: int = 0
    tokens: int = 0


class Rings:
    """A ring of callers, and a ring of requests for each."""

    def __init__(self) -> None:
        self.callers: deque[str] = deque()
        self.requests: dict[str, deque[PendingList]] = {}
        self.count = 0

    def add(self, request: PendingList) -> None:
        """Put a request at the end of its caller's ring."""
        if request.caller not in self.requests:
            self.requests[request.caller] = deque()
            self.callers.append(request.caller)
        self.requests[request.caller].append(request)
        self.count += 1

    def remove(self, request: PendingList) -> bool:
        """Take a request out, if it waits here; return whether it did."""
        ring = self.requests.get(request.caller)
        if ring is None or request not in ring:
            return False
        ring.remove(request)
        self._left(request.caller)
        return True

    def take(self, batch_cost: int, slice_cost: int) -> dict[PendingList, tuple[int, int]]:
        """Return the ranges of the next batch, at least one document where any waits."""
        batch: dict[PendingList, tuple[int, int]] = {}
        room = batch_cost
        while self.callers and (room > 0 or not batch):
            caller = self.callers[0]
            self.callers.rotate(-1)
            ring = self.requests[caller]
            request = ring[0]
            ring.rotate(-1)
            before = request.left
            start, stop = request.take(max(min(slice_cost, room), 1))
            room -= before - request.left
            batch[request] = (batch.get(request, (start, stop))[0], stop)
            if not request.left:
                self.remove(request)
        return batch

    def of(self, caller: str) -> int:
        """Return how many requests of a caller wait."""
        return len(self.requests.get(caller, ()))

    def __iter__(self) -> Iterator[PendingList]:
        return iter([request for ring in self.requests.values() for request in ring])

    def _left(self, caller: str) -> None:
        self.count -= 1
        if not self.requests[caller]:
            del self.requests[caller]
            self.callers.remove(caller)


class Queue:
    """All that waits: the rings of short lists and of long ones."""

    def __init__(self) -> None:
        self.short, self.long = Rings(), Rings()

    @property
    def count(self) -> int:
        """How many requests wait."""
        return self.short.count + self.long.count

    def add(self, request: PendingList) -> None:
        """Put a newcomer at the end of its ring."""
        self.short.add(request)

    def remove(self, request: PendingList) -> None:
        """Take a request out, if it still waits."""
        self.short.remove(request)
        self.long.remove(request)

    def take(self, cost: int) -> dict[PendingList, tuple[int, int]]:
        """Return the ranges of the next batch of about ``cost`` tokens; at least a document, where any waits."""
        slice_cost = math.ceil(cost / SLICES)
        batch: dict[PendingList, tuple[int, int]] = {}
        for rings, full in ((self.long, math.ceil(cost / LONG_SHARE)), (self.short, cost), (self.long, cost // 2)):
            room = full - sum(int(r.ahead[stop] - r.ahead[start]) for r, (start, stop) in batch.items())
            if room > 0 or not batch:
                for request, (start, stop) in rings.take(room, slice_cost).items():
                    batch[request] = (batch.get(request, (start, stop))[0], stop)
        for request in batch:
            if request.left and request.had >= cost and self.short.remove(request):
                self.long.add(request)
        return batch

    def ahead_of(self, cost: int) -> int:
        """Return the tokens that are scored before a newcomer of ``cost`` is through: at most as many of each list."""
        return sum(min(request.left, cost) for request in self)

    def of(self, caller: str) -> int:
        """Return how many requests of a caller wait."""
        return self.short.of(caller) + self.long.of(caller)

    def __iter__(self) -> Iterator[PendingList]:
        return iter([*self.short, *self.long])
