"""Bodies in chunks, and a bound on how small many of them may be.

A chunk costs the event loop the same whatever it holds, so that a body of one-byte chunks costs a thousand times what
the same body costs in one piece. A client that streams a few thousand small pieces is served all the same.
"""

from typing import Any

import h11

SMALL_CHUNKS = 4096
"""A body may have as many chunks of any size."""
LEAST_MEAN = 64
"""The least mean number of bytes per chunk of a body that has more."""


class TinyChunks(Exception):
    """A body comes in too many chunks that are too small."""


class ChunkCountingConnection(h11.Connection):
    """A connection of h11 that raises `TinyChunks` where the chunks of a body are many and tiny."""

    chunks = carried = 0

    def next_event(self) -> Any:
        """Return the next event of the connection, as h11 does."""
        event = super().next_event()
        if isinstance(event, h11.Request):
            self.chunks = self.carried = 0
        elif isinstance(event, h11.Data):
            self.chunks += event.chunk_start
            self.carried += len(event.data)
            if self.chunks > SMALL_CHUNKS and self.carried < LEAST_MEAN * self.chunks:
                raise TinyChunks
        return event
