"""Who may stay connected: caps in all and for one address; where one is reached, the idlest connection makes room."""

import resource
from collections import OrderedDict
from enum import IntEnum
from typing import Protocol

from lorank.serving.requests.limits import Limits

RESERVED_FILES = 64
"""Files that are kept free for adapters, keys and the process itself."""


class Stage(IntEnum):
    """What a connection does; those that come first make room first."""

    SILENT = 0
    """No request is under way: nothing came, or part of the headers."""
    SENDING = 1
    """The body of a request is on its way in."""
    SERVED = 2
    """A request is complete and its answer is being made or sent: never closed for others."""


class Connection(Protocol):
    """What the caps need to know of a connection."""

    address: str

    @property
    def stage(self) -> Stage:
        """What it does."""
        ...

    def drop(self) -> None:
        """Close it at once."""
        ...


class Connections:
    """The open connections, oldest first, by address; counts of what became of others.

    Args:
        most: Connections in all.
        most_of_one: Connections of one address.
    """

    def __init__(self, most: int, most_of_one: int) -> None:
        self.most, self.most_of_one = most, most_of_one
        self.by_address: dict[str, OrderedDict[Connection, None]] = {}
        self.count = self.refused = self.dropped = self.late = self.at_the_door = 0

    @classmethod
    def of(cls, limits: Limits) -> "Connections":
        """Return the caps of a server, within what the process may open; one address gets at most three quarters."""
        most = min(limits.connections, max(openable_files(limits.connections + RESERVED_FILES) - RESERVED_FILES, 8))
        return cls(most, min(limits.connections_of_one, max(1, most * 3 // 4)))

    def add(self, new: Connection) -> bool:
        """Take a connection in, closing another one where there is no room; False where none can be closed."""
        own = self.by_address.get(new.address, OrderedDict())
        if len(own) >= self.most_of_one and not self._make_room(own):
            return False
        if self.count >= self.most:
            heaviest = max(self.by_address.values(), key=len)
            if not (self._make_room(heaviest) or any(self._make_room(one) for one in list(self.by_address.values()))):
                return False
        self.by_address.setdefault(new.address, OrderedDict())[new] = None
        self.count += 1
        return True

    def touch(self, one: Connection) -> None:
        """Note that a connection has done something worth keeping it for: it has sent a whole request."""
        own = self.by_address.get(one.address)
        if own is not None and one in own:
            own.move_to_end(one)

    def remove(self, one: Connection) -> None:
        """Forget a connection, if it is known."""
        own = self.by_address.get(one.address)
        if own is None or one not in own:
            return
        del own[one]
        self.count -= 1
        if not own:
            del self.by_address[one.address]

    def _make_room(self, own: OrderedDict[Connection, None]) -> bool:
        """Close the first of the silent ones, else of those that send; return whether there was one."""
        chosen = min(own, key=lambda one: one.stage, default=None)
        if chosen is None or chosen.stage is Stage.SERVED:
            return False
        self.dropped += 1
        self.remove(chosen)
        chosen.drop()
        return True


def openable_files(wanted: int) -> int:
    """Return how many files this process may open, after asking for ``wanted``."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
        soft = raised
    return wanted if soft == resource.RLIM_INFINITY else soft
