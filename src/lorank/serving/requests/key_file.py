"""Changes to a key file: under a lock, whole or not at all, with its mode, owner, comments and order kept."""

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lorank.errors import LorankError, UsageError, WriteError
from lorank.files import replaced_file
from lorank.serving.requests.keys import Caller, read_keys, read_row, read_time

HEADER = "# name, SHA-256 of the key, adapters, options\n"
ID_LENGTH = 8
"""Characters of the SHA-256 that name a key in lists."""
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class Row:
    """One key of a file: its line's number, its hash, and what it may."""

    number: int
    digest: str
    caller: Caller

    @property
    def id(self) -> str:
        """What the key is called in lists: the beginning of its hash."""
        return self.digest[:ID_LENGTH]

    def is_named(self, who: str) -> bool:
        """Return True where ``who`` is the key's name or id."""
        return who in (self.caller.name, self.id)


class KeyEdit:
    """The text of a key file that is being changed, and saved once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = path.read_text() if path.exists() else HEADER
        self.saved = False

    def rows(self) -> list[Row]:
        """Return the keys of the text."""
        found = []
        for number, line in enumerate(self.text.splitlines(), start=1):
            parts = line.partition("#")[0].split()
            if parts:
                found.append(Row(number, *read_row(parts, self.path, number)))
        return found

    def of(self, who: str) -> list[Row]:
        """Return the keys that are called ``who``, by name or id.

        Raises:
            UsageError: there is none; it names those that there are.
        """
        found = [row for row in self.rows() if row.is_named(who)]
        if not found:
            known = ", ".join(f"{row.caller.name} ({row.id})" for row in self.rows()) or "none"
            raise UsageError(f"{self.path}: no key is called {who!r}; there are {known}")
        return found

    def add(self, line: str) -> None:
        """Put a line at the end."""
        self.text += ("" if not self.text or self.text.endswith("\n") else "\n") + line + "\n"

    def replace(self, rows: Sequence[Row], change: Callable[[Row], str | None]) -> None:
        """Replace the lines of ``rows`` by what ``change`` returns; None takes a line out."""
        lines: list[str | None] = list(self.text.splitlines())
        for row in rows:
            lines[row.number - 1] = change(row)
        self.text = "".join(line + "\n" for line in lines if line is not None)

    def save(self, show: Callable[[], None] = lambda: None) -> None:
        """Check the new text, write it beside the file, ``show`` what belongs to it, and only then put it in place."""
        self.text = self.text if self.text.strip() else HEADER
        read_keys(self.text, self.path, may_be_empty=True)
        held = self.path.stat() if self.path.exists() else None
        with replaced_file(self.path, mode=0o600) as stage:
            stage.write_text(self.text)
            if held is not None and (held.st_uid, held.st_gid) != (os.geteuid(), os.getegid()):
                with contextlib.suppress(PermissionError):  # another's file that we may write: the group at least
                    os.chown(stage, -1, held.st_gid)
                    os.chown(stage, held.st_uid, held.st_gid)
            show()
        self.saved = True


@contextlib.contextmanager
def edit_keys(path: str | Path) -> Iterator[KeyEdit]:
    """Lock a key file, give its text to be changed, and save it, if that was not done, when the block ends well.

    Raises:
        LorankError: the disk is full, the folder cannot be written, ...; the file is as it was.
    """
    place = Path(path).resolve()
    if place.exists() and not place.is_file():
        raise UsageError(f"{path}: not a file; name a key file, which is made where it is missing")
    try:
        with (place.with_name(f".{place.name}.lock")).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            edit = KeyEdit(place)
            yield edit
            if not edit.saved:
                edit.save()
    except (OSError, WriteError) as error:
        why = getattr(error, "strerror", None) or error
        raise LorankError(f"{path}: cannot be changed ({why}); it is as it was") from error


def line_of(digest: str, caller: Caller) -> str:
    """Return the line of a key.

    >>> line_of("0" * 8, Caller("acme", frozenset({"b", "a"}), expires=86400.0, requests_per_minute=60.0))
    'acme 00000000 a,b expires=1970-01-02T00:00:00Z requests_per_minute=60'
    """
    words = [caller.name, digest, "*" if caller.adapters is None else ",".join(sorted(caller.adapters))]
    if caller.expires is not None:
        words.append(f"expires={format_time(caller.expires)}")
    for option in ("requests_per_minute", "tokens_per_minute"):
        if getattr(caller, option) is not None:
            words.append(f"{option}={getattr(caller, option):.12g}")
    return " ".join(words)


def format_time(seconds: float) -> str:
    """Return a time in ISO 8601, in UTC."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def when(text: str, now: float | None = None) -> float:
    """Return seconds since 1970 of a date, a time, or a span from now such as ``30d``, ``12h`` or ``0s``.

    >>> when("2d", now=0.0), when("1970-01-02")
    (172800.0, 86400.0)
    """
    span = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if span:
        return (time.time() if now is None else now) + int(span[1]) * UNITS[span[2]]
    try:
        return read_time(text)
    except ValueError as error:
        raise UsageError(
            f"{text!r} is no time; write 2027-01-31, 2027-01-31T12:00:00Z or a span such as 30d"
        ) from error
