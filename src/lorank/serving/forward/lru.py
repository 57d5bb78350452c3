"""Who is in memory: least recently used out first, pinned ones stay, what a batch uses is not taken from it."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from lorank.errors import LorankError
from lorank.serving.forward.page_pool import Full

Thing = TypeVar("Thing")


class NoRoom(LorankError):
    """Nothing that may leave is left, and there is still no room."""


@dataclass
class Counts:
    """How often something was found in memory, had to be loaded, and was sent away."""

    hits: int = 0
    loads: int = 0
    evictions: int = 0


@dataclass
class LRU(Generic[Thing]):
    """Things by key, in order of use; ``unload`` gives back the memory of one.

    >>> lru = LRU(unload=lambda thing: None)
    >>> lru.get("a", lambda: 1), lru.get("a", lambda: 2), lru.counts.hits
    (1, 1, 1)
    """

    unload: Callable[[Thing], None]
    counts: Counts = field(default_factory=Counts)
    pinned: set[Hashable] = field(default_factory=set)
    _things: "OrderedDict[Hashable, Thing]" = field(default_factory=OrderedDict)
    _in_use: dict[Hashable, int] = field(default_factory=dict)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._things

    def __len__(self) -> int:
        return len(self._things)

    def keys(self) -> list[Hashable]:
        """Return the keys, least recently used first."""
        return list(self._things)

    def peek(self, key: Hashable) -> Thing | None:
        """Return the thing called ``key`` without counting it as used."""
        return self._things.get(key)

    def get(self, key: Hashable, load: Callable[[], Thing]) -> Thing:
        """Return the thing called ``key``; where it is absent, load it, sending others away until it fits.

        ``load`` raises ``Full``, with nothing taken, where there is no room.

        Raises:
            NoRoom: all that is left is pinned or in use.
        """
        if key in self._things:
            self.counts.hits += 1
            self._things.move_to_end(key)
            return self._things[key]
        while True:
            try:
                thing = load()
            except Full:
                self._evict_one(key)
            else:
                self.counts.loads += 1
                self._things[key] = thing
                return thing

    @contextmanager
    def use(self, *keys: Hashable) -> Iterator[None]:
        """Within it none of ``keys`` is sent away."""
        for key in keys:
            self.hold(key)
        try:
            yield
        finally:
            for key in keys:
                self.let_go(key)

    def hold(self, key: Hashable) -> None:
        """Count one more use of ``key``: it stays until ``let_go``."""
        self._in_use[key] = self._in_use.get(key, 0) + 1

    def let_go(self, key: Hashable) -> None:
        """Count one use of ``key`` less."""
        self._in_use[key] -= 1
        if not self._in_use[key]:
            del self._in_use[key]

    def drop(self, key: Hashable) -> None:
        """Send ``key`` away, if it is here, pinned or not."""
        if key in self._things:
            self.unload(self._things.pop(key))

    def evictable(self) -> list[Thing]:
        """Return the things that may be sent away, least recently used first."""
        return [thing for key, thing in self._things.items() if key not in self.pinned and key not in self._in_use]

    def _evict_one(self, wanted: Hashable) -> None:
        leaving = next((key for key in self._things if key not in self.pinned and key not in self._in_use), None)
        if leaving is None:
            kept = f"{len(self._things)} others are pinned or in use" if self._things else "nothing else is in memory"
            raise NoRoom(f"no memory for adapter {wanted!r}: {kept}; raise the memory budget or unpin adapters")
        self.counts.evictions += 1
        self.drop(leaving)
