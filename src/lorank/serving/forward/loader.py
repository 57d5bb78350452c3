"""Adapters of a source: read on first use, refused while their files are broken, checked before where they must be."""

import logging
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from lorank.errors import DataError, LorankError
from lorank.ranking.scorers.bi_encoder import BiEncoder
from lorank.ranking.scorers.ranker import TrainableRanker
from lorank.serving.adapters.inspector import printable
from lorank.serving.adapters.package import Package
from lorank.serving.adapters.source import Source
from lorank.serving.adapters.store import Changed, read_named
from lorank.serving.forward.loaded_adapter import LoadedAdapter, Prepared, place, prepare_package
from lorank.serving.forward.lru import LRU, NoRoom
from lorank.serving.forward.mixed import Layout
from lorank.serving.forward.page_pool import PagePool
from lorank.serving.requests.engine import NotYet

logger = logging.getLogger("lorank")

BROKEN = (DataError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, MemoryError, OverflowError, OSError)
"""What reading and building an adapter from a folder that anyone may have written can raise."""
REMEMBERED = 10_000
"""Broken adapters that are remembered."""
PREPARED = 8
"""Adapters that are held ready for the scoring thread, beside those in memory."""


class AdapterLoader:
    """Opens adapters of ``source`` on ``ranker``'s base; what is opened lies in ``pool`` until others need the room.

    ``wrap`` receives the paths of modules that an adapter brings whole. With ``checked`` nothing is opened that
    `accept` has not let through (see `lorank.serving.forward.admission`).
    """

    def __init__(
        self,
        ranker: TrainableRanker,
        source: Source,
        layout: Layout,
        pool: PagePool,
        wrap: Callable[[str], object],
        *,
        checked: bool = False,
    ) -> None:
        self.ranker, self.source, self.layout, self.pool, self.wrap = ranker, source, layout, pool, wrap
        self.checked = checked
        self.base_refusal: LorankError | None = None
        self.loaded: LRU[LoadedAdapter] = LRU(unload=lambda opened: opened.close(pool))
        self.accepted: dict[str, str] = {}
        self._ready: OrderedDict[str, Prepared] = OrderedDict()
        self._broken: dict[str, tuple[str, LorankError]] = {}
        self._versions: dict[str, str] = {}
        self._lock = threading.Lock()

    def look_again(self) -> None:
        """Forget the versions seen so far: files may have changed since."""
        self._versions = {}

    def version(self, name: str) -> str:
        """Return the version of the adapter's files, looked up once between two calls of ``look_again``."""
        if name not in self._versions:
            self._versions[name] = self.current(name)
        return self._versions[name]

    def current(self, name: str) -> str:
        """Return the version that is served now; may be asked from any thread.

        Where files must be checked first, the version before is served until that is done.

        Raises:
            UnknownAdapter: no adapter has that name.
            NotYet: it has not been checked.
            LorankError: it is refused.
        """
        try:
            version = self.source.version(name)
        except LorankError:
            self.accepted.pop(name, None)  # what comes after it is nothing that the version before may stand for
            raise
        known = self._broken.get(name)
        if known is not None and known[0] == version:
            raise known[1]
        if not self.checked or self.accepted.get(name) == version:
            return version
        before, loaded = self.accepted.get(name), self.loaded.peek(name)
        if before is not None and loaded is not None and loaded.version == before:
            return before
        raise NotYet(name)

    def refusal(self, name: str | None) -> LorankError | None:
        """Return why ``name`` cannot be served, without reading its weights; None where it may be."""
        if name is None:
            return self.base_refusal
        try:
            self.version(name)
        except LorankError as error:
            return error
        return None

    def reason(self, name: str) -> LorankError | None:
        """Return why ``name`` was refused the last time that it was looked at."""
        known = self._broken.get(name)
        return None if known is None else known[1]

    def open(self, name: str) -> LoadedAdapter:
        """Return the adapter called ``name``, read anew where its files have changed."""
        version = self.version(name)
        present = self.loaded.peek(name)
        if present is not None and present.version != version:
            self.loaded.drop(name)
        if name in self.loaded:
            return self.loaded.get(name, lambda: present)  # type: ignore[arg-type,return-value]
        prepared = self._take(name, version)
        self._check_room(prepared)
        opened = self.loaded.get(name, lambda: place(prepared, self.layout))
        for path in opened.heads:
            self.wrap(path)
        return opened

    def is_available(self, name: str, version: str) -> bool:
        """Return whether the adapter is in memory or held ready, as its files are now."""
        loaded, ready = self.loaded.peek(name), self._ready.get(name)
        return version in (loaded and loaded.version, ready and ready.version)

    def is_refused(self, name: str, version: str) -> bool:
        """Return whether these files are known to be broken."""
        known = self._broken.get(name)
        return known is not None and known[0] == version

    def serves(self, name: str) -> bool:
        """Return whether some version of the adapter can be served at once."""
        try:
            self.current(name)
        except LorankError:
            return False
        return True

    def accept(self, name: str, version: str, read: Callable[[], Package]) -> None:
        """Read and build an adapter that was checked and hold it ready; may be called from any thread."""
        prepared = self._built(name, version, read)
        with self._lock:
            self._ready[name] = prepared
            while len(self._ready) > PREPARED:
                self._ready.popitem(last=False)
            self.accepted[name] = version
            self._broken.pop(name, None)

    def refuse(self, name: str, version: str, error: LorankError) -> None:
        """Remember that these files are broken."""
        logger.warning("adapter %r is refused: %s", name, printable(str(error)))
        with self._lock:
            if len(self._broken) >= REMEMBERED:
                self._broken.clear()
            self._broken[name] = version, error
            self.accepted.pop(name, None)

    def _take(self, name: str, version: str) -> Prepared:
        with self._lock:
            ready = self._ready.pop(name, None)
        if ready is not None and ready.version == version:
            return ready
        return self._built(name, version, lambda: self._read(name, version))

    def _read(self, name: str, version: str) -> Package:
        """Read an adapter; where files must be checked first, those that were and no others."""
        if not self.checked:
            return self.source.read(name, self.ranker)
        with tempfile.TemporaryDirectory(prefix="lorank-adapter-") as stage:
            if self.source.copy(name, Path(stage)) != version:  # type: ignore[attr-defined]
                raise Changed(name, None, "the files changed meanwhile", "ask again in a moment")
            return read_named(name, Path(stage), self.ranker)

    def _built(self, name: str, version: str, read: Callable[[], Package]) -> Prepared:
        """Read and build an adapter; what is wrong with it is remembered until its files change."""
        try:
            package = read()
            if package.first_stage is not None and package.first_stage.base is not None:
                package.first_stage.__dict__["encoder"] = self.encoder
            prepared = prepare_package(name, version, package, self.ranker.module, self.layout)
            if prepared.pages > self.pool.capacity:
                need, have = (pages * self.pool.width * 4 / 2**20 for pages in (prepared.pages, self.pool.capacity))
                raise LorankError(
                    f"adapter {name!r} takes {need:.1f} MiB, and the memory budget of all adapters is {have:.1f} MiB; "
                    "raise it (--memory-mb), or train the adapter with a smaller rank"
                )
        except Changed:
            raise  # nothing is known of the files as they are now
        except LorankError as error:
            named = error if name in str(error) else LorankError(f"adapter {name!r}: {error}")
            self.refuse(name, version, named)
            raise named from error
        except BROKEN as error:
            broken = LorankError(f"adapter {name!r} is broken: {type(error).__name__}: {error}; save it again")
            self.refuse(name, version, broken)
            raise broken from error
        self._broken.pop(name, None)
        return prepared

    def _check_room(self, prepared: Prepared) -> None:
        """Raise NoRoom, with nobody sent out, where all that may leave would not make room enough."""
        leaving = sum(opened.taken for opened in self.loaded.evictable())
        if prepared.pages > self.pool.free + leaving:
            raise NoRoom(
                f"no memory for adapter {prepared.name!r}: {len(self.loaded)} others are pinned or in use; "
                "raise the memory budget or unpin adapters"
            )

    @cached_property
    def encoder(self) -> BiEncoder:
        """The base as a bi-encoder, for first stages that fuse its cosine with BM25."""
        return BiEncoder(self.ranker.base, dtype="auto")
