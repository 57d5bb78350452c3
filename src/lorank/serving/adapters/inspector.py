"""The server's side of the inspection: folders are checked in another process before anything here reads them."""

import contextlib
import itertools
import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Late
from pathlib import Path
from typing import Any

from lorank.errors import LorankError
from lorank.ranking.scorers.ranker import TrainableRanker
from lorank.serving.adapters.facts import Facts, skeleton_of
from lorank.serving.adapters.inspection_process import folder_size, wall_seconds

logger = logging.getLogger("lorank")

ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
START_S, WALL_S, GRACE_S = 120.0, 30.0, 10.0
"""Seconds that the process has to start, that a small folder has to be read, and that the process may answer late."""
CLOSE_S = 5.0
"""Seconds that the end of a killed process is waited for."""


class NoInspection(LorankError):
    """A folder was not read to the end, which says nothing of it: the machine may have been busy."""


class Inspector:
    """A process that reads folders in children with limits; it is started anew where it has died or hangs.

    Args:
        ranker: The base that adapters must fit.
        most_bytes: The memory that adapters have.
        wall_s: The seconds of the clock that a small folder has to be read; large ones have more.
        start_s: The seconds that the process has to start.
        grace_s: The seconds that it may answer later than a folder's time is over.
    """

    def __init__(
        self,
        ranker: TrainableRanker,
        most_bytes: int,
        *,
        wall_s: float = WALL_S,
        start_s: float = START_S,
        grace_s: float = GRACE_S,
    ) -> None:
        module = skeleton_of(ranker.module)
        facts = Facts(ranker.kind, str(ranker.base), dict(ranker.options()), module, most_bytes, wall_s)
        self.wall_s, self.start_s, self.grace_s = wall_s, start_s, grace_s
        self._facts = pickle.dumps(facts)
        self._numbers, self._lock = itertools.count(), threading.Lock()
        self._process: Process | None = None
        self._closed = False
        self._start()

    def check(self, name: str, folder: Path) -> Sequence[str]:
        """Return remarks on the adapter in ``folder``.

        Raises:
            LorankError: the adapter cannot be served; the message says why.
            NoInspection: the folder was not read to the end.
        """
        process = self._start()
        if not process.ready.wait(self.start_s):
            process.kill()
            raise NoInspection(f"the check's process did not start within {self.start_s:g} s")
        seconds = wall_seconds(folder_size(folder), self.wall_s) + self.grace_s
        try:
            result = process.ask({"id": next(self._numbers), "name": name, "folder": str(folder)}, seconds)
        except Late as error:
            process.kill()
            raise NoInspection(f"the check's process did not answer within {seconds:.3g} s") from error
        except OSError as error:
            raise NoInspection("the check's process ended meanwhile") from error
        if not result["answered"]:
            raise NoInspection(printable(str(result["error"])))
        if result["error"] is not None:
            reason = printable(str(result["error"]))
            raise LorankError(reason if name in reason else f"adapter {name!r}: {reason}")
        return [printable(str(remark)) for remark in result["remarks"]]

    def close(self) -> None:
        """End the process and whatever it reads; checks under way fail, and none is waited for."""
        with self._lock:
            self._closed = True
            if self._process is not None:
                self._process.kill()

    def _start(self) -> "Process":
        """Return the process, started where there is none that lives."""
        with self._lock:
            if self._closed:
                raise NoInspection("the server is about to stop")
            if self._process is None or not self._process.lives():
                if self._process is not None:
                    logger.error("the inspector ended with status %s and is started again", self._process.status())
                self._process = Process(self._facts)
            return self._process


class Process:
    """One run of `lorank.serving.adapters.inspection_process`, and the checks that are pending there."""

    def __init__(self, facts: bytes) -> None:
        self.ready = threading.Event()
        self._pending: dict[int, Future[dict[str, Any]]] = {}
        self._killed, self._lock = False, threading.Lock()
        handle, path = tempfile.mkstemp(prefix="lorank-facts-")
        with os.fdopen(handle, "wb") as file:
            file.write(facts)
        self._opened = subprocess.Popen(
            [sys.executable, "-P", "-m", "lorank.serving.adapters.inspection_process", path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, **dict.fromkeys(ONE_THREAD, "1"), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        threading.Thread(target=self._receive, name="inspector", daemon=True).start()

    @property
    def id(self) -> int:
        """The number of the process, and of the group that its children belong to."""
        return self._opened.pid

    def lives(self) -> bool:
        """Return whether it can be asked."""
        return not self._killed and self._opened.poll() is None

    def status(self) -> int | None:
        """Return its exit code, None where it has not ended."""
        return self._opened.poll()

    def ask(self, row: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Return the answer to a request.

        Raises:
            TimeoutError: there is none within ``seconds``.
            OSError: the process ended.
        """
        answer: Future[dict[str, Any]] = Future()
        try:
            with self._lock:
                if not self.lives():
                    raise OSError("the inspector ended")
                self._pending[row["id"]] = answer
                assert self._opened.stdin is not None
                self._opened.stdin.write(json.dumps(row).encode() + b"\n")
                self._opened.stdin.flush()
            return answer.result(seconds)
        finally:
            self._pending.pop(row["id"], None)

    def kill(self) -> None:
        """End it and its children; pending checks fail. A process that cannot be killed is left behind."""
        self._killed = True
        if self._opened.poll() is None:
            self._kill_group()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._opened.wait(CLOSE_S)
        self._fail_pending()

    def _receive(self) -> None:
        assert self._opened.stdout is not None
        for line in self._opened.stdout:
            result = json.loads(line)
            pending = self._pending.pop(result["id"], None)
            if pending is not None:
                pending.set_result(result)
            self.ready.set()
        self._killed = True
        self._kill_group()  # a child that hangs outlives nobody
        self.ready.set()
        self._fail_pending()

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.id, signal.SIGKILL)

    def _fail_pending(self) -> None:
        with self._lock:
            for number in list(self._pending):
                pending = self._pending.pop(number, None)
                if pending is not None:
                    pending.set_exception(OSError("the inspector ended"))


def printable(text: str, most: int = 600) -> str:
    """Return ``text`` on one line, of at most ``most`` characters, with what cannot be printed escaped.

    >>> printable("a\\nb"), printable("x" * 100, most=5)
    ('a\\\\nb', 'xxxxx...')
    """
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: most + 1])
    return plain if len(plain) <= most else plain[:most] + "..."
