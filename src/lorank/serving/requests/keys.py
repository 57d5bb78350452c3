"""API keys: who calls, and which adapters they may call and see.

One key a line, in a file or in the environment variable LORANK_API_KEYS (there ``;`` parts lines as well):

    NAME  SHA256-OF-THE-KEY  ADAPTER[,ADAPTER...]        # or * for all adapters

Every key may call the base model. Keys are 256 random bits that `lorank key` draws and shows once, so that a plain
SHA-256 at rest is enough; passwords that people think up are not keys. A key is compared with all of them in
constant time and written nowhere.
"""

import hashlib
import hmac
import logging
import os
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lorank.errors import DataError, LorankError
from lorank.serving.requests.refusal import Refusal

logger = logging.getLogger("lorank.serving")

ENVIRONMENT = "LORANK_API_KEYS"
NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
REMEDY = "write NAME SHA256 ADAPTERS, as `lorank key` prints it"


@dataclass(frozen=True)
class Caller:
    """Who asks: the name of the key and the adapters it opens; None opens all."""

    name: str
    adapters: frozenset[str] | None = None

    def may(self, adapter: str | None) -> bool:
        """Return True where the caller may call and see ``adapter``; the base (None) is everybody's."""
        return adapter is None or self.adapters is None or adapter in self.adapters


ANYBODY = Caller("")


class NoKeys:
    """A server without keys: everybody may call everything."""

    def caller(self, authorization: str | None) -> Caller:
        """Return `ANYBODY`."""
        return ANYBODY


class Keys:
    """The keys that a server knows, as rows of (SHA-256 in hex, caller)."""

    def __init__(self, rows: Sequence[tuple[str, Caller]]) -> None:
        self.rows = list(rows)

    def caller(self, authorization: str | None) -> Caller:
        """Return who calls with the header ``Authorization: Bearer KEY``, or refuse with 401."""
        scheme, _, key = (authorization or "").strip().partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise Refusal(401, "no_key", "this server asks for a key: send the header Authorization: Bearer KEY")
        given, found = hashed(key.strip()), None
        for known, caller in self.rows:
            if hmac.compare_digest(known, given):
                found = caller
        if found is None:
            raise Refusal(401, "unknown_key", "this key is not known here; ask the server's operator for one")
        return found


class KeyFile(Keys):
    """Keys of a file that is read again when it changes; a broken new version is logged and the old one kept."""

    def __init__(self, path: str | Path) -> None:
        self.path, self.seen, self.looked = Path(path), _stamp(Path(path)), time.monotonic()
        super().__init__(read_keys(self.path.read_text(), self.path))

    def caller(self, authorization: str | None) -> Caller:
        """Return who calls, by the file as it was within the last second."""
        if time.monotonic() - self.looked > 1.0:
            self.looked = time.monotonic()
            self._look()
        return super().caller(authorization)

    def _look(self) -> None:
        try:
            stamp = _stamp(self.path)
            if stamp != self.seen:
                self.rows, self.seen = read_keys(self.path.read_text(), self.path), stamp
        except (OSError, LorankError, UnicodeDecodeError) as error:
            logger.error("keys are kept as they were: %s", error)


def open_keys(path: str | Path | None) -> Keys | NoKeys:
    """Return the keys of a file, else those of LORANK_API_KEYS, else none: everybody may call."""
    if path is not None:
        if not Path(path).is_file():
            raise LorankError(f"{path}: no such key file; make one with `lorank key NAME --keys {path}`")
        return KeyFile(path)
    told = os.environ.get(ENVIRONMENT)
    return NoKeys() if told is None else Keys(read_keys(told.replace(";", "\n"), ENVIRONMENT))


def read_keys(text: str, source: str | Path) -> list[tuple[str, Caller]]:
    """Return the rows of a key file; messages never repeat what stands in it.

    >>> read_keys("acme " + "0" * 64 + " acme-de,acme-fr", "keys.txt")[0][1].may("globex")
    False
    """
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        parts = line.partition("#")[0].split()
        if not parts:
            continue
        if len(parts) != 3 or not NAME.fullmatch(parts[0]):
            raise DataError(
                source, number, "not a key: three words are expected, the first of letters, digits, ._-", REMEDY
            )
        if not re.fullmatch(r"[0-9a-f]{64}", parts[1]):
            raise DataError(
                source, number, "the second word is not a SHA-256 in hex (keys are never stored plain)", REMEDY
            )
        adapters = None if parts[2] == "*" else frozenset(filter(None, parts[2].split(",")))
        rows.append((parts[1], Caller(parts[0], adapters)))
    if not rows:
        raise DataError(source, None, "holds no key, so that nobody could call", REMEDY)
    return rows


def new_key() -> str:
    """Return a fresh key of 256 random bits."""
    return "lr-" + secrets.token_urlsafe(32)


def hashed(key: str) -> str:
    """Return the SHA-256 of a key in hex, as it is stored."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino
