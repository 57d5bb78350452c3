"""Runs the application on uvicorn, and stops it well: accepted requests are answered, new ones get 503.

On SIGTERM or SIGINT the server goes on listening and refuses what is new, /health with it, until the last accepted
request is answered or ``drain_s`` is over; then it closes. A second signal ends it at once.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from types import FrameType

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from lorank.errors import LorankError
from lorank.serving.http.middleware import RequestMiddleware

logger = logging.getLogger("lorank.serving")

HEADERS_S = 10.0
"""A connection that has sent no whole request line and headers in this time is closed."""


class Server(uvicorn.Server):
    """A uvicorn server that drains before it stops; ``say`` hears its address once it listens."""

    def __init__(
        self, application: RequestMiddleware, host: str, port: int, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self.application, self.say, self.stop_at = application, say, float("inf")
        super().__init__(
            uvicorn.Config(
                application,
                host=host,
                port=port,
                log_config=None,
                access_log=False,
                http=Impatient,
                ws="none",
                server_header=False,
                date_header=True,
                timeout_keep_alive=30,
                timeout_graceful_shutdown=5,
                lifespan="on",
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say where.

        Raises:
            LorankError: the address is taken or not this machine's.
        """
        try:
            await super().startup(sockets)
        except SystemExit as ended:
            raise LorankError(
                f"cannot listen on {self.config.host}:{self.config.port}; choose another --port (0 takes "
                "any free one) or --host"
            ) from ended
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        self.say(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; at the second signal stop at once."""
        batcher = self.application.service.batcher
        if batcher.stopping:
            self.should_exit = self.force_exit = True
        batcher.stopping = True
        self.stop_at = time.monotonic() + self.application.limits.drain_s

    async def on_tick(self, counter: int) -> bool:
        """Return True once nothing is left to answer, or the time for it is over."""
        if self.stop_at < float("inf") and (not self.application.active or time.monotonic() > self.stop_at):
            if self.application.active:
                logger.error("%d requests were not answered in time to stop", self.application.active)
            self.should_exit = True
        return await super().on_tick(counter)


class Impatient(H11Protocol):
    """A connection that is closed where no request begins in time; what is under way has other limits."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Start the clock."""
        super().connection_made(transport)
        self.loop.call_later(HEADERS_S, self._close_if_silent)

    def _close_if_silent(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()
