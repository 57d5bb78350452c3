"""Scores already computed, least recently used out first, bounded by bytes.

The key is a digest of owner, adapter, version of its files, query and document: a changed adapter misses, and nobody
can tell from the time of an answer what another caller has asked.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from threading import Lock

ENTRY_BYTES = 256
"""What an entry takes, measured: the key, the value, their places in the table."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a query and a document: score, probability (where calibrated), whether it was cut, and whether
    it is at the certified threshold or above it (where there is one)."""

    score: float
    probability: float | None
    cut: bool
    above: bool | None = None


class ScoreCache:
    """At most ``most_bytes`` of scores; may be used from several threads."""

    def __init__(self, most_bytes: int) -> None:
        self.most, self.hits, self.misses = most_bytes // ENTRY_BYTES, 0, 0
        self._known: OrderedDict[bytes, Known] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._known)

    def find(self, keys: Sequence[bytes]) -> list[Known | None]:
        """Return what is known under each key."""
        with self._lock:
            found = [self._known.get(key) for key in keys]
            for key, known in zip(keys, found, strict=True):
                if known is not None:
                    self._known.move_to_end(key)
            hits = len(found) - found.count(None)
            self.hits, self.misses = self.hits + hits, self.misses + len(found) - hits
        return found

    def keep(self, keys: Sequence[bytes], known: Sequence[Known]) -> None:
        """Remember each under its key, and forget the oldest beyond the bound."""
        with self._lock:
            self._known.update(zip(keys, known, strict=True))
            while len(self._known) > self.most:
                self._known.popitem(last=False)


def digest_documents(
    owner: str, adapter: str | None, version: str, query: str, documents: Sequence[str]
) -> list[bytes]:
    """Return a digest of 16 bytes for each document; every part goes in with its length, so that none runs over.

    Args:
        owner: The caller whose own entries these are; "" where all callers of the adapter share them.
        adapter: The adapter; None for the base.
        version: The version of its files.
        query: The query.
        documents: The documents.
    """
    common = blake2b(digest_size=16)
    for part in (owner, "base" if adapter is None else "adapter", adapter or "", version, query):
        encoded = part.encode()
        common.update(len(encoded).to_bytes(8, "little") + encoded)
    keys = []
    for document in documents:
        own = common.copy()
        own.update(document.encode())
        keys.append(own.digest())
    return keys
