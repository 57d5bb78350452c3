"""The shelf: adapters of a source, read on first use, and refused while their files are broken."""

import logging
from collections.abc import Callable
from functools import cached_property

from lorank.errors import DataError, LorankError
from lorank.ranking.scorers.bi_encoder import BiEncoder
from lorank.ranking.scorers.ranker import TrainableRanker
from lorank.serving.adapters.source import Source
from lorank.serving.forward.loaded_adapter import LoadedAdapter, open_package
from lorank.serving.forward.lru import LRU
from lorank.serving.forward.mixed import Layout
from lorank.serving.forward.page_pool import Full, PagePool

logger = logging.getLogger("lorank")

BROKEN = (DataError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, MemoryError, OverflowError, OSError)
"""What reading and building an adapter from a folder that anyone may have written can raise."""
REMEMBERED = 10_000
"""Broken adapters that are remembered."""


class AdapterLoader:
    """Opens adapters of ``source`` on ``ranker``'s base; what is opened lies in ``pool`` until others need the room.

    ``wrap`` is told the paths of modules that an adapter brings whole.
    """

    def __init__(
        self, ranker: TrainableRanker, source: Source, layout: Layout, pool: PagePool, wrap: Callable[[str], object]
    ) -> None:
        self.ranker, self.source, self.layout, self.pool, self.wrap = ranker, source, layout, pool, wrap
        self.residents: LRU[LoadedAdapter] = LRU(unload=lambda opened: opened.close(pool))
        self._broken: dict[str, tuple[str, LorankError]] = {}
        self._versions: dict[str, str] = {}

    def look_again(self) -> None:
        """Forget the versions seen so far: files may have changed since."""
        self._versions = {}

    def version(self, name: str) -> str:
        """Return the version of the adapter's files, looked up once between two calls of ``look_again``."""
        if name not in self._versions:
            self._versions[name] = self.source.version(name)
        return self._versions[name]

    def refusal(self, name: str | None) -> LorankError | None:
        """Return why ``name`` cannot be served, without reading its weights; None where it may be."""
        if name is None:
            return None
        try:
            version = self.version(name)
        except LorankError as error:
            return error
        known = self._broken.get(name)
        return known[1] if known is not None and known[0] == version else None

    def open(self, name: str) -> LoadedAdapter:
        """Return the adapter called ``name``, read anew where its files have changed."""
        version = self.version(name)
        present = self.residents.peek(name)
        if present is not None and present.version != version:
            self.residents.drop(name)
        return self.residents.get(name, lambda: self._load(name, version))

    def _load(self, name: str, version: str) -> LoadedAdapter:
        """Read an adapter and put it into the pool; what is wrong with it is remembered until its files change."""
        known = self._broken.get(name)
        if known is not None and known[0] == version:
            raise known[1]
        try:
            package = self.source.read(name, self.ranker)
            if package.first_stage is not None and package.first_stage.base is not None:
                package.first_stage.__dict__["encoder"] = self.encoder
            opened = open_package(name, version, package, self.ranker.module, self.layout)
        except Full:
            raise
        except LorankError as error:
            named = error if name in str(error) else LorankError(f"adapter {name!r}: {error}")
            self.refuse(name, version, named)
            raise named from error
        except BROKEN as error:
            broken = LorankError(f"adapter {name!r} is broken: {type(error).__name__}: {error}; save it again")
            self.refuse(name, version, broken)
            raise broken from error
        for path in opened.heads:
            self.wrap(path)
        return opened

    @cached_property
    def encoder(self) -> BiEncoder:
        """The base as a bi-encoder, for first stages that fuse its cosine with BM25."""
        return BiEncoder(self.ranker.base, dtype="auto")

    def refuse(self, name: str, version: str, error: LorankError) -> None:
        """Remember that these files are broken."""
        logger.warning("adapter %r is refused: %s", name, error)
        if len(self._broken) >= REMEMBERED:
            self._broken.clear()
        self._broken[name] = version, error
