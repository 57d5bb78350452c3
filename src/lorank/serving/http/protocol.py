"""HTTP/1.1 with deadlines: uvicorn's own protocol, and a clock for each thing that a client can be slow at.

    headers   from the first byte of a request, or from the beginning of a connection, to the end of the headers
    idle      between the end of an answer and the next request
    writing   while the client reads nothing of an answer that is sent

The body has its own deadline, in `lorank.serving.http.middleware`. A slow trickle of bytes moves none of the clocks.
"""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from lorank.serving.http.chunks import ChunkCountingConnection, TinyChunks
from lorank.serving.http.connections import Connections, Stage
from lorank.serving.requests.limits import Limits

CROWDED = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s"
)
ATTEMPTS, ATTEMPT_S, MOST_AT_THE_DOOR = 40, 0.05, 16
"""A connection for which there is no place tries again so often and after so many seconds, if few others do."""
TINY = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
)
TINY_CHUNKS = (
    b'{"error":"the body comes in too many tiny chunks; send larger ones","error_type":"tiny_chunks",'
    b'"message":"the body comes in too many tiny chunks; send larger ones"}'
)
TOO_MANY = b'{"error":"too many connections","error_type":"connections","message":"too many connections; try again"}'


class DeadlineProtocol(H11Protocol):
    """One connection; closed where its client is too slow, or where others need its place."""

    def __init__(self, *arguments: Any, limits: Limits, open_connections: Connections, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.limits, self.open_connections, self.address = limits, open_connections, ""
        self._clock: asyncio.TimerHandle | None = None
        self._clock_of = ""
        self._write_clock: asyncio.TimerHandle | None = None
        size = self.config.h11_max_incomplete_event_size
        self.conn = ChunkCountingConnection(h11.SERVER) if size is None else ChunkCountingConnection(h11.SERVER, size)

    @property
    def stage(self) -> Stage:
        """What this connection does."""
        if self.cycle is None or self.cycle.response_complete:
            return Stage.SILENT
        return Stage.SENDING if self.cycle.more_body else Stage.SERVED

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock, or refuse where there are too many connections."""
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        self._enter(ATTEMPTS)

    def _enter(self, attempts: int) -> None:
        """Take a place among the connections; where all are being answered, wait a moment for one, or be refused."""
        if self.transport.is_closing():
            return
        if self.open_connections.add(self):
            self.flow.resume_reading()
            self._start("headers", self.limits.headers_s)
        elif attempts and (attempts < ATTEMPTS or self.open_connections.at_the_door < MOST_AT_THE_DOOR):
            self.open_connections.at_the_door += attempts == ATTEMPTS
            self.flow.pause_reading()
            self.loop.call_later(ATTEMPT_S, self._try_again, attempts - 1)
        else:
            self.open_connections.refused += 1
            self.transport.write(CROWDED % (len(TOO_MANY), TOO_MANY))
            self._close()

    def _try_again(self, attempts: int) -> None:
        self._enter(attempts)
        if not attempts or self.transport.is_closing() or not self.flow.read_paused:
            self.open_connections.at_the_door -= 1

    def connection_lost(self, error: Exception | None) -> None:
        """Stop all clocks."""
        self.open_connections.remove(self)
        self._stop()
        self._stop_write_clock()
        super().connection_lost(error)

    def data_received(self, data: bytes) -> None:
        """Take bytes in; those that do not end the headers leave the clock as it is."""
        try:
            super().data_received(data)
        except TinyChunks:
            self._refuse_chunks()
        self._watch(begun=True)

    def _refuse_chunks(self) -> None:
        """Answer that the chunks are too small, where nothing was answered yet, and close."""
        self.flow.pause_reading()
        if self.cycle is not None and not self.cycle.response_started:
            self.transport.write(TINY % (len(TINY_CHUNKS), TINY_CHUNKS))
        self._close()

    def on_response_complete(self) -> None:
        """Start the clock for the next request; what is left of this one's body has as long as headers have."""
        super().on_response_complete()
        self.open_connections.touch(self)
        if self.transport.is_closing():
            self.loop.call_later(self.limits.write_s, self.transport.abort)
        self._watch(begun=self.conn.their_state is not h11.IDLE or bool(self.conn.trailing_data[0]))

    def pause_writing(self) -> None:
        """Start the clock of a client that does not read."""
        super().pause_writing()
        if self._write_clock is None:
            self._write_clock = self.loop.call_later(self.limits.write_s, self.drop)

    def resume_writing(self) -> None:
        """Stop that clock: it reads."""
        super().resume_writing()
        self._stop_write_clock()

    def drop(self) -> None:
        """Close the connection at once."""
        if self._write_clock is not None:
            self.open_connections.late += 1
        self.transport.abort()

    def _should_upgrade(self) -> bool:
        """Return False: no other protocol is spoken here, and one that asks for one is not worth a line of the log."""
        return False

    def _watch(self, begun: bool) -> None:
        """Set the clock for what the connection does now."""
        if self.transport.is_closing() or self.stage is not Stage.SILENT:
            self._stop()
        elif begun:
            self._start("headers", self.limits.headers_s)
        else:
            self._start("idle", self.limits.idle_s)

    def _start(self, what: str, seconds: float) -> None:
        if self._clock_of != what:
            self._stop()
            self._clock, self._clock_of = self.loop.call_later(seconds, self._expire), what

    def _stop(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
        self._clock, self._clock_of = None, ""

    def _stop_write_clock(self) -> None:
        if self._write_clock is not None:
            self._write_clock.cancel()
            self._write_clock = None

    def _expire(self) -> None:
        self.open_connections.late += self._clock_of == "headers"
        self._close()

    def _close(self) -> None:
        """Close after what was written is sent, for which there is a deadline too."""
        self._stop()
        if not self.transport.is_closing():
            self.transport.close()
            self.loop.call_later(self.limits.write_s, self.transport.abort)
