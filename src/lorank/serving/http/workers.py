"""Several processes on one port: a parent that holds the socket, and workers that each hold the base and serve.

The parent imports no model. It starts a worker again that ends by itself, passes SIGTERM on so that each drains, and
ends with 0 once all have. A worker that ends before it has ever served ends them all: it would not fare better again.
"""

import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from types import FrameType

from lorank.errors import LorankError, UsageError
from lorank.progress import unshare_progress_lock

logger = logging.getLogger("lorank.serving")

RESTART_S = 1.0
"""A worker is started again no sooner than so many seconds after it was started last."""
BACKLOG = 256

Work = Callable[[socket.socket, int, Callable[[str], None]], None]
"""Serves on a socket as worker number i, and calls the third argument once it listens."""


def open_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens for all workers.

    Raises:
        LorankError: the address is taken or not this machine's.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        made = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise LorankError(
            f"cannot listen on {host}:{port} ({error.strerror}); choose another --port (0 takes any free one) or --host"
        ) from error
    made.set_inheritable(True)
    return made


class Workers:
    """Starts ``count`` workers on a socket and keeps them running until a signal ends them."""

    def __init__(self, count: int, listening: socket.socket, work: Work, say: Callable[[str], None]) -> None:
        self.count, self.listening, self.work, self.say = count, listening, work, say
        self.running: dict[int, tuple[int, float]] = {}
        self.ready: set[int] = set()
        self.stopping = False
        self.ready_end, self.report_end = os.pipe()

    def run(self) -> int:
        """Return the exit code once all workers have ended."""
        handlers = {number: signal.signal(number, self._stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            for index in range(self.count):
                self._start(index)
            return self._wait_for_readiness() or self._watch()
        finally:
            self._end_all(signal.SIGKILL)
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _start(self, index: int) -> None:
        process = os.fork()
        if process:
            self.running[process] = (index, time.monotonic())
            return
        code = 1
        try:
            os.close(self.ready_end)
            unshare_progress_lock()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            self.work(self.listening, index, lambda _: _report(self.report_end, index))
            code = 0
        except LorankError as error:
            code = 2 if isinstance(error, UsageError) else 1
            print(f"lorank: worker {index}: {error}", file=sys.stderr)  # noqa: T201  this is a process of its own
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        except BaseException:
            logger.exception("worker %d failed", index)
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.flush()
            os._exit(code)

    def _wait_for_readiness(self) -> int:
        """Return 0 once every worker listens, or the exit code of one that ended before."""
        os.set_blocking(self.ready_end, False)
        while len(self.ready) < self.count and not self.stopping:
            with contextlib.suppress(BlockingIOError):
                self.ready.update(os.read(self.ready_end, 100))
            for _, code in self._find_end():
                self.stopping = True
                self._end_all(signal.SIGTERM)
                return abs(code) or 1
            time.sleep(0.02)
        if not self.stopping:
            host, port = self.listening.getsockname()[:2]
            self.say(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
        return 0

    def _watch(self) -> int:
        failed = 0
        while self.running:
            for index, code in self._find_end():
                if self.stopping:
                    failed = failed or (0 if code == -signal.SIGTERM else code)  # one that did not serve yet
                    continue
                logger.error("worker %d ended with %d; it is started again", index, code)
                time.sleep(RESTART_S)
                if not self.stopping:
                    self._start(index)
            time.sleep(0.05)
        return abs(failed)

    def _find_end(self) -> list[tuple[int, int]]:
        """Return the numbers and exit codes of the workers that have ended."""
        ended = []
        for process in list(self.running):
            found, status = os.waitpid(process, os.WNOHANG)
            if found:
                ended.append((self.running.pop(process)[0], os.waitstatus_to_exitcode(status)))
        return ended

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._end_all(signal.SIGKILL if self.stopping and number == signal.SIGINT else signal.SIGTERM)
        self.stopping = True

    def _end_all(self, number: int) -> None:
        for process in self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)


def _report(pipe: int, index: int) -> None:
    os.write(pipe, bytes([index]))
