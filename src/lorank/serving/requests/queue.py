"""The queue: lists that wait to be scored, a fair share of every batch for each tenant, short lists first.

Tenants share by start-time fair queueing (Goyal, Vin and Cheng 1996). Each tenant carries a start tag S, in tokens of
service; the virtual time V is the tag of whoever was served last. A turn goes to the tenant with the smallest tag,
takes one slice of cost c (at least one document) from one of its lists, and moves its tag:

    S <- S + c;      S of a tenant that returns <- max(V, S where it left)

So a tenant with a thousand lists gets what a tenant with one gets; one whose document costs more than its slice pays
for it in later turns, also if it leaves meanwhile; and a newcomer waits for at most one slice of each other tenant. A
slice is a quarter of a batch, or less where more than four tenants wait, so that each has a share of every batch.

A tenant's own lists are parted in short and long ones, those that have had a whole batch. The two share the tenant's
turns by the same rule, 7 to 1; within each, lists take turns by batches. Where only long lists wait, batches are half
as large, so that a newcomer waits for half as long. All of it happens on the event loop; there are no locks, and no
clock.
"""

import asyncio
import heapq
import math
from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import numpy as np

from lorank.serving.requests.engine import Job

SLICES = 4
"""A turn takes at most this part of a batch."""
SHORT_WEIGHT = 7
"""What a tenant's short lists get of its turns for each part that its long ones get."""


@dataclass(eq=False)
class PendingList:
    """One list that waits.

    Args:
        caller: Whose turn it takes: the tenant.
        job: What is to be scored.
        costs: Estimated tokens of each document, query included.
        deadline: By the event loop's clock.
        done: Slices scored, or the exception that ends the request.
        added: When it was added, by the event loop's clock.
    """

    caller: str
    job: Job
    costs: np.ndarray
    deadline: float
    done: "asyncio.Queue[Slice | Exception]" = field(default_factory=asyncio.Queue)
    added: float = 0.0
    at: int = 0
    gone: bool = False
    is_long: bool = False

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

    def cost(self, start: int, stop: int) -> int:
        """Return the estimated tokens of a range."""
        return int(self.ahead[stop] - self.ahead[start])


@dataclass(frozen=True)
class Slice:
    """Documents ``start`` to ``stop`` of one list, scored: they waited ``queue_s`` and their batch took ``score_s``."""

    start: int
    stop: int
    scores: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    above: np.ndarray | None = None
    cut: np.ndarray | None = None
    truncated: int = 0
    tokens: int = 0
    queue_s: float = 0.0
    score_s: float = 0.0


@dataclass(eq=False)
class Tenant:
    """The lists of one tenant and its start tag; ``served`` counts the weighted tokens of its short and long lists."""

    name: str
    start: float
    short: deque[PendingList] = field(default_factory=deque)
    long: deque[PendingList] = field(default_factory=deque)
    short_tag: float = 0.0
    long_tag: float = 0.0

    @property
    def count(self) -> int:
        """How many lists wait."""
        return len(self.short) + len(self.long)

    @property
    def left(self) -> int:
        """Estimated tokens that wait."""
        return sum(request.left for request in self)

    def add(self, request: PendingList) -> None:
        """Put a list at the end of its ring; a ring that was empty has no claim on turns that are past."""
        ring = self.long if request.is_long else self.short
        if not ring:
            if request.is_long:
                self.long_tag = max(self.long_tag, self.short_tag)
            else:
                self.short_tag = max(self.short_tag, self.long_tag)
        ring.append(request)

    def remove(self, request: PendingList) -> bool:
        """Take a list out, if it waits here; return whether it did."""
        ring = self.long if request.is_long else self.short
        if request not in ring:
            return False
        ring.remove(request)
        return True

    def take(self, most: int, batch: Collection[PendingList] = ()) -> tuple[PendingList, int, int]:
        """Take a slice from the list whose turn it is; return the list and the range.

        A list that was last in its ring to have a turn in the same ``batch`` has the next one too: pieces of two lists
        cost more than one piece of the same length.
        """
        is_long = not self.short or (bool(self.long) and self.long_tag < self.short_tag)
        ring = self.long if is_long else self.short
        request = ring[-1] if ring[-1] in batch else ring[0]
        if request is ring[0]:
            ring.rotate(-1)
        start, stop = request.take(most)
        if is_long:
            self.long_tag += request.cost(start, stop)
        else:
            self.short_tag += request.cost(start, stop) / SHORT_WEIGHT
        return request, start, stop

    def __iter__(self) -> Iterator[PendingList]:
        yield from self.short
        yield from self.long


class Queue:
    """All that waits, by tenant."""

    def __init__(self) -> None:
        self.tenants: dict[str, Tenant] = {}
        self.count = self.shorts = 0
        self._now = 0.0
        self._left_with: dict[str, float] = {}

    def add(self, request: PendingList) -> None:
        """Put a newcomer at the end of its tenant's ring."""
        tenant = self.tenants.get(request.caller)
        if tenant is None:
            if not self.tenants:
                self._left_with.clear()
            start = max(self._now, self._left_with.pop(request.caller, 0.0))
            tenant = self.tenants[request.caller] = Tenant(request.caller, start)
        tenant.add(request)
        self.count += 1
        self.shorts += not request.is_long

    def remove(self, request: PendingList) -> bool:
        """Take a list out, if it still waits; return whether it did."""
        tenant = self.tenants.get(request.caller)
        if tenant is None or not tenant.remove(request):
            return False
        self.count -= 1
        self.shorts -= not request.is_long
        if not tenant.count:
            del self.tenants[request.caller]
            self._remember(tenant)
        return True

    def take(self, cost: int) -> dict[PendingList, tuple[int, int]]:
        """Return the ranges of the next batch of about ``cost`` tokens; at least a document, where any waits."""
        batch: dict[PendingList, tuple[int, int]] = {}
        most = math.ceil(cost / max(SLICES, len(self.tenants)))
        order = [(tenant.start, place, tenant) for place, tenant in enumerate(self.tenants.values())]
        heapq.heapify(order)
        spent = 0
        while order and (not batch or spent < (cost if self.shorts else cost // 2)):
            _, place, tenant = order[0]
            self._now = tenant.start
            request, start, stop = tenant.take(max(min(most, cost - spent), 1), batch)
            spent += request.cost(start, stop)
            tenant.start += request.cost(start, stop)
            batch[request] = (batch.get(request, (start, stop))[0], stop)
            if not request.left:
                self.remove(request)
            elif not request.is_long and request.had >= cost:
                self._lengthen(tenant, request)
            if tenant.count:
                heapq.heapreplace(order, (tenant.start, place, tenant))
            else:
                heapq.heappop(order)
        return batch

    def ahead_of(self, caller: str, cost: int) -> int:
        """Return the tokens that are scored before the turn of a newcomer of ``cost`` comes: its tenant's own, at most
        as many of each list, and at most as many of each other tenant."""
        own = self.tenants.get(caller)
        if own is None:
            return 0
        before = sum(min(request.left, cost) for request in own)
        return before + sum(min(tenant.left, before) for tenant in self.tenants.values() if tenant is not own)

    def newest_of_heaviest(self, caller: str) -> PendingList | None:
        """Return the list that makes room for a newcomer of ``caller``: the newest of the tenant with most lists.

        Lists of which nothing was scored go first. None where the caller itself has the most: its newcomer is the
        newest.
        """
        heaviest = max(self.tenants.values(), key=lambda tenant: tenant.count, default=None)
        if heaviest is None or self.of(caller) + 1 >= heaviest.count:
            return None
        queued = list(heaviest)
        return max((one for one in queued if not one.at), key=lambda one: one.added, default=queued[-1])

    def of(self, caller: str) -> int:
        """Return how many lists of a tenant wait."""
        return self.tenants[caller].count if caller in self.tenants else 0

    def __iter__(self) -> Iterator[PendingList]:
        return iter([request for tenant in self.tenants.values() for request in tenant])

    def _lengthen(self, tenant: Tenant, request: PendingList) -> None:
        tenant.remove(request)
        request.is_long = True
        self.shorts -= 1
        tenant.add(request)

    def _remember(self, tenant: Tenant) -> None:
        """Keep the tag of a tenant that leaves ahead of its time, so that leaving pays no debt."""
        if tenant.start > self._now:
            self._left_with[tenant.name] = tenant.start
        if len(self._left_with) > 4096:
            self._left_with = {name: start for name, start in self._left_with.items() if start > self._now}
