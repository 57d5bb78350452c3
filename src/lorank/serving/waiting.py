"""The queue: lists that wait to be scored, served in turn, a slice at a time.

Callers stand in a ring, and each caller's requests in a ring of their own. A turn takes one slice of at most
``slice_cost`` from one request, then both rings move on, until the batch is full. So a list of 50,000 documents
advances in every round but holds nobody up, and a caller with a hundred requests gets no more than one with a single
request. All of it happens on the event loop; there are no locks.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from lorank.serving.engine import Job


@dataclass(eq=False)
class Waiting:
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
    """The waiting lists, a ring of callers and a ring of requests for each."""

    def __init__(self) -> None:
        self.callers: deque[str] = deque()
        self.requests: dict[str, deque[Waiting]] = {}
        self.count = 0

    def add(self, request: Waiting) -> None:
        """Put a request at the end of its caller's ring."""
        if request.caller not in self.requests:
            self.requests[request.caller] = deque()
            self.callers.append(request.caller)
        self.requests[request.caller].append(request)
        self.count += 1

    def remove(self, request: Waiting) -> None:
        """Take a request out, if it still waits."""
        ring = self.requests.get(request.caller)
        if ring is not None and request in ring:
            ring.remove(request)
            self._left(request.caller)

    def take(self, batch_cost: int, slice_cost: int) -> dict[Waiting, tuple[int, int]]:
        """Return the ranges of the next batch, at least one document where any waits."""
        batch: dict[Waiting, tuple[int, int]] = {}
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

    def ahead_of(self, cost: int) -> int:
        """Return the tokens that will be scored before a newcomer of ``cost`` is through: of each list, so many."""
        return sum(min(request.left, cost) for ring in self.requests.values() for request in ring)

    def of(self, caller: str) -> int:
        """Return how many requests of a caller wait."""
        return len(self.requests.get(caller, ()))

    def __iter__(self):  # noqa: ANN204
        return iter([request for ring in self.requests.values() for request in ring])

    def _left(self, caller: str) -> None:
        self.count -= 1
        if not self.requests[caller]:
            del self.requests[caller]
            self.callers.remove(caller)
