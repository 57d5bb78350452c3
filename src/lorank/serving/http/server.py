"""Runs the application on uvicorn, and stops it well: accepted requests are answered, new ones get 503.

On SIGTERM or SIGINT the server keeps its port open and refuses what is new, /health with it, until the last accepted
request is answered or ``drain_s`` is over; then it closes. A second signal ends it at once.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import uvicorn

from lorank.errors import LorankError
from lorank.serving.http.connections import Connections
from lorank.serving.http.middleware import RequestMiddleware
from lorank.serving.http.protocol import DeadlineProtocol

logger = logging.getLogger("lorank.serving")

BACKLOG = 256
"""Connections that the system keeps until they are accepted; asyncio accepts as many in one go."""


class Server(uvicorn.Server):
    """A uvicorn server that drains before it stops; ``say`` receives its address once the port is open.

    ``listening`` is a socket that listens already, of several processes together; else ``host`` and ``port`` are bound.
    """

    def __init__(
        self,
        application: RequestMiddleware,
        host: str,
        port: int,
        say: Callable[[str], None] = lambda _: None,
        listening: socket.socket | None = None,
    ) -> None:
        self.listening = listening
        self.application, self.say, self.stop_at = application, say, float("inf")
        limits = application.limits
        self.open_connections = application.service.connections = Connections.of(limits)
        super().__init__(
            uvicorn.Config(
                application,
                host=host,
                port=port,
                log_config=None,
                access_log=False,
                http=partial(  # type: ignore[arg-type]  # it is called as the class would be
                    DeadlineProtocol, limits=limits, open_connections=self.open_connections
                ),
                backlog=BACKLOG,
                ws="none",
                server_header=False,
                date_header=True,
                timeout_keep_alive=limits.idle_s,  # type: ignore[arg-type]  # fractions work as well
                timeout_graceful_shutdown=5,
                lifespan="on",
            )
        )

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until a signal ends it."""
        super().run([self.listening] if self.listening is not None else sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the port, and say where.

        Raises:
            LorankError: the address is taken or not this machine's.
        """
        asyncio.get_running_loop().set_exception_handler(log_loop_error)
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


def log_loop_error(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log in one line what went wrong beside all requests, such as an accept() for which no file is left."""
    logger.error("%s: %r", context.get("message", "the event loop reports an error"), context.get("exception"))
