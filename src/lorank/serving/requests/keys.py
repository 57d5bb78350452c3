"""API keys: who calls, which adapters they may call and see, until when and how fast.

One key a line, in a file or in the environment variable LORANK_API_KEYS (there ``;`` parts lines as well):

    NAME  SHA256-OF-THE-KEY  ADAPTER[,ADAPTER...]  [OPTION=VALUE ...]       # * for all adapters

The options are ``expires=2027-01-31T00:00:00Z``, ``requests_per_minute=600`` and ``tokens_per_minute=200000``.
Every key may call the base model. Keys are 256 random bits that `lorank key` draws and shows once, so that a plain
SHA-256 at rest is enough; passwords that people think up are not keys. A key is found by its hash, which nobody can
choose, compared in constant time, and written nowhere.
"""

import hashlib
import hmac
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lorank.errors import DataError, LorankError
from lorank.serving.requests.refusal import Refusal

logger = logging.getLogger("lorank.serving")

ENVIRONMENT = "LORANK_API_KEYS"
NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
ADAPTERS = re.compile(r"\*|[A-Za-z0-9._,-]+")
REMEDY = "write NAME SHA256 ADAPTERS, as `lorank key` prints it"


@dataclass(frozen=True)
class Caller:
    """Who asks: the name of the key and the adapters it opens (None opens all), its end and its rates."""

    name: str
    adapters: frozenset[str] | None = None
    expires: float | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None

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
    """The keys that a server knows, as rows of (SHA-256 in hex, caller); ``clock`` gives seconds since 1970."""

    def __init__(self, rows: Sequence[tuple[str, Caller]], clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.rows = list(rows)

    @property
    def rows(self) -> list[tuple[str, Caller]]:
        """The keys."""
        return self._rows

    @rows.setter
    def rows(self, rows: list[tuple[str, Caller]]) -> None:
        self._rows, self._by_hash = rows, dict(rows)

    def caller(self, authorization: str | None) -> Caller:
        """Return who calls with the header ``Authorization: Bearer KEY``, or refuse with 401."""
        scheme, _, key = (authorization or "").strip().partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise Refusal(401, "no_key", "this server asks for a key: send the header Authorization: Bearer KEY")
        given = hash_key(key.strip())
        found = self._by_hash.get(given)
        known = given if found is not None else "0" * 64
        if not hmac.compare_digest(known, given) or found is None:
            raise Refusal(401, "unknown_key", "this key is not known here; ask the server's operator for one")
        if found.expires is not None and self.clock() >= found.expires:
            raise Refusal(401, "expired_key", "this key is no longer valid; ask the server's operator for a new one")
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
                self.rows, self.seen = read_keys(self.path.read_text(), self.path, may_be_empty=True), stamp
        except (OSError, LorankError, UnicodeDecodeError) as error:
            logger.error("keys are kept as they were: %s", error)


def open_keys(path: str | Path | None) -> Keys | NoKeys:
    """Return the keys of a file, else those of LORANK_API_KEYS, else none: everybody may call."""
    if path is not None:
        if not Path(path).is_file():
            raise LorankError(f"{path}: no such key file; make one with `lorank key NAME --keys {path}`")
        return KeyFile(path)
    given = os.environ.get(ENVIRONMENT)
    return NoKeys() if given is None else Keys(read_keys(given.replace(";", "\n"), ENVIRONMENT))


def read_keys(text: str, source: str | Path, *, may_be_empty: bool = False) -> list[tuple[str, Caller]]:
    """Return the rows of a key file; messages never repeat what stands in it.

    ``may_be_empty`` takes a file whose last key was revoked: then nobody may call.

    >>> read_keys("acme " + "0" * 64 + " acme-de,acme-fr", "keys.txt")[0][1].may("globex")
    False
    """
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        parts = line.partition("#")[0].split()
        if parts:
            rows.append(read_row(parts, source, number))
    if not rows and not (may_be_empty and text.strip()):
        raise DataError(source, None, "holds no key, so that nobody could call", REMEDY)
    return rows


def read_row(parts: Sequence[str], source: str | Path, number: int) -> tuple[str, Caller]:
    """Return one key from the words of its line."""
    if len(parts) < 3 or not NAME.fullmatch(parts[0]):
        raise DataError(
            source, number, "not a key: three words are expected, the first of letters, digits, ._-", REMEDY
        )
    if not re.fullmatch(r"[0-9a-f]{64}", parts[1]):
        raise DataError(source, number, "the second word is not a SHA-256 in hex (keys are never stored plain)", REMEDY)
    if not ADAPTERS.fullmatch(parts[2]):
        raise DataError(
            source, number, "the third word is no list of adapters: letters, digits, ._- and commas", REMEDY
        )
    adapters = None if parts[2] == "*" else frozenset(filter(None, parts[2].split(",")))
    options: dict[str, float] = {}
    for word in parts[3:]:
        name, equals, value = word.partition("=")
        try:
            if not equals or name in options:
                raise ValueError("no option")
            options[name] = OPTIONS[name](value)
        except (KeyError, ValueError) as error:
            raise DataError(
                source,
                number,
                "a word after the adapters is no option with a valid value, or stands twice",
                f"the options are {', '.join(OPTIONS)}, each written NAME=VALUE",
            ) from error
    return parts[1], Caller(parts[0], adapters, **options)


def read_time(text: str) -> float:
    """Return seconds since 1970 of a time in ISO 8601; without a zone it is UTC.

    >>> read_time("1970-01-02T00:00:00Z"), read_time("1970-01-02")
    (86400.0, 86400.0)
    """
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def read_rate(text: str) -> float:
    """Return a rate a minute; ValueError unless it is a positive number."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError("a rate must be positive")
    return value


OPTIONS: dict[str, Callable[[str], float]] = {
    "expires": read_time,
    "requests_per_minute": read_rate,
    "tokens_per_minute": read_rate,
}
"""What may stand after the adapters of a key, and how it is read."""


def new_key() -> str:
    """Return a fresh key of 256 random bits."""
    return "lr-" + secrets.token_urlsafe(32)


def hash_key(key: str) -> str:
    """Return the SHA-256 of a key in hex, as it is stored."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino
