"""From a store's files to an adapter that may be served: copied, checked in a process of its own, built.

All that is done off the scoring thread, which opens what `AdapterLoader.accept` has let through and nothing else. Until
a changed adapter is checked, the version before is served where it is in memory.
"""

import logging
import math
import shutil
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from lorank.errors import LorankError
from lorank.serving.adapters.inspector import NoInspection, printable
from lorank.serving.adapters.store import FolderStore, RemoteStore, read_named
from lorank.serving.forward.backoff import Backoff
from lorank.serving.forward.loader import AdapterLoader
from lorank.serving.requests.engine import NotYet, UnknownAdapter

logger = logging.getLogger("lorank")

THREADS, BACKGROUND = 4, 1
"""Folders that are checked at the same time: for requests, and for nobody in particular."""
LATELY_S = 5.0
"""Seconds in which an adapter that was just built is not built again, though it left memory at once."""
LOOKED_AT = 256
"""Adapters that are looked at when the server starts."""


class Check(Protocol):
    """Looks at a private copy of an adapter's folder."""

    def check(self, name: str, folder: Path) -> Sequence[str]:
        """Return remarks on an adapter that can be served.

        Raises:
            LorankError: it cannot be served.
            NoInspection: it was not read to the end, which says nothing of it.
        """
        ...

    def close(self) -> None:
        """Give up what is held."""
        ...


class Admission:
    """Lets adapters of ``store`` through to ``loader``, each once for each version of its files.

    What the inspector says of a version is remembered until the files change. Where it came to no end, because the
    process that read them was late or died, the adapter is checked again when it is asked for later.

    Args:
        loader: Opens what was let through.
        store: Where the adapters are.
        inspector: Looks at a copy of each.
        backoff: When a check that came to no end may be tried again; None takes the usual times.
    """

    def __init__(
        self,
        loader: AdapterLoader,
        store: FolderStore | RemoteStore,
        inspector: Check,
        backoff: Backoff | None = None,
    ) -> None:
        self.loader, self.store, self.inspector = loader, store, inspector
        self.backoff = backoff or Backoff()
        self.remarks: dict[str, Sequence[str]] = {}
        self.faults: dict[str, LorankError] = {}
        """Adapters that are refused without being opened, such as links."""
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="admission")
        self._background = ThreadPoolExecutor(BACKGROUND, thread_name_prefix="looking")
        self._under_way: dict[str, Future[None]] = {}
        self._ended: dict[str, float] = {}
        self._lock = threading.Lock()
        self._home = tempfile.TemporaryDirectory(prefix="lorank-admission-")

    def must_wait(self, name: str) -> bool:
        """Return whether ``start`` must be called, and waited for, before the adapter can be scored.

        Where a version before is served meanwhile the work is begun, and nobody waits for it.

        Raises:
            UnknownAdapter: no adapter has that name.
            NotYet: a check came to no end, and it is too early for the next.
            LorankError: it is refused without being opened.
        """
        loader = self.loader
        try:
            version = self.store.version(name)
        except UnknownAdapter:
            loader.accepted.pop(name, None)
            raise
        except LorankError as error:
            if str(self.faults.get(name)) != str(error):
                logger.warning("adapter %r is refused: %s", name, printable(str(error)))
            self.faults[name] = error
            loader.accepted.pop(name, None)
            raise
        self.faults.pop(name, None)
        accepted = loader.accepted.get(name) == version
        if loader.is_refused(name, version) or (accepted and loader.is_available(name, version)):
            return False
        left = 0.0 if accepted else self.backoff.left(name, version)
        if not loader.serves(name):
            if left:
                raise NotYet(name, retry_s=left)
            return True
        if not accepted:
            if not left:
                self.start(name)
            return False
        return time.monotonic() - self._ended.get(name, -math.inf) > LATELY_S

    def start(self, name: str) -> "Future[None]":
        """Begin to check and build an adapter, unless that is under way, and return what ends when it is done."""
        with self._lock:
            under_way = self._under_way.get(name)
            if under_way is None:
                under_way = self._under_way[name] = self._threads.submit(self._work, name)
            return under_way

    def look_at_all(self) -> None:
        """Check the store's adapters in the background, so that the log names those that cannot be served."""
        for name in self.store.names()[:LOOKED_AT]:
            self._background.submit(self._look_at, name)

    def close(self) -> None:
        """Give up the threads, the process and the copies."""
        for threads in (self._background, self._threads):
            threads.shutdown(wait=False, cancel_futures=True)
        self.inspector.close()
        self._home.cleanup()

    def _look_at(self, name: str) -> None:
        with suppress(LorankError):  # `must_wait` and `AdapterLoader.refuse` have said it
            if self.must_wait(name):
                self.start(name).result()

    def _work(self, name: str) -> None:
        try:
            self._check(name)
        except LorankError as error:
            if not self.loader.reason(name):
                logger.warning("adapter %r: %s", name, printable(str(error)))
        finally:
            with self._lock:
                self._under_way.pop(name, None)
                if len(self._ended) > 10_000:
                    self._ended.clear()
                self._ended[name] = time.monotonic()

    def _check(self, name: str) -> None:
        stage = Path(tempfile.mkdtemp(dir=self._home.name))
        try:
            version = self.store.copy(name, stage)
            if self.loader.accepted.get(name) != version:
                try:
                    remarks = self.inspector.check(name, stage)
                except NoInspection as error:
                    self._postpone(name, version, str(error))
                    return
                except LorankError as error:
                    self.backoff.forget(name)
                    self.loader.refuse(name, version, error)
                    return
                self.backoff.forget(name)
                for remark in remarks:
                    logger.warning("adapter %r: %s", name, remark)
                self.remarks[name] = remarks
            if not self.loader.is_available(name, version):
                self.loader.accept(name, version, lambda: read_named(name, stage, self.loader.ranker))
        finally:
            shutil.rmtree(stage, ignore_errors=True)

    def _postpone(self, name: str, version: str, reason: str) -> None:
        seconds = self.backoff.fail(name, version, reason)
        logger.warning(
            "adapter %r is not checked yet: %s; it is checked again when it is asked for in %.0f s or later",
            name,
            reason,
            seconds,
        )
