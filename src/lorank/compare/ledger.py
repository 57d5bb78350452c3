"""The ledger of an experiment: one JSON line for each trial that ended, so that a run that was killed goes on.

A line is written whole and forced to disk before the next trial is counted as done. A last line that a crash cut short
is dropped, and its trial is run again. One process writes at a time.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lorank.compare.trial import key_of
from lorank.errors import DataError, UsageError

LEDGER = "ledger.jsonl"
"""What an experiment's folder calls it."""

Line = Mapping[str, Any]
"""What the ledger holds of a trial: ``settings``, ``row``, ``seconds``, and ``result`` or ``failed``."""

Lines = Mapping[str, Line]
"""The ledger's lines by the keys of their trials."""


class Ledger:
    """The trials that ended, by their keys.

    Args:
        path: The file, which is made if it does not exist.
        collections: The fingerprint of each collection; that of a ledger which was begun must be the same.

    Raises:
        UsageError: Where another process writes to the file, or a collection has changed since it was begun.
        DataError: For a line that is no trial's.
    """

    def __init__(self, path: Path, collections: Mapping[str, str]) -> None:
        self.path, self.lines = path, dict[str, Line]()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        self._lock()
        for number, line in enumerate(self._whole_lines(), start=1):
            self._take(number, line, collections)
        for name, fingerprint in collections.items():
            if name not in self._known:
                self._write({"collection": name, "fingerprint": fingerprint})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, key: str, line: Line) -> None:
        """Add a trial that ended; it is on the disk when this returns."""
        self._write(line)
        self.lines[key] = line

    def forget_failures(self) -> int:
        """Let trials that failed run again, and return how many they are; their lines stay in the file."""
        failed = [key for key, line in self.lines.items() if "failed" in line]
        for key in failed:
            del self.lines[key]
        return len(failed)

    def _lock(self) -> None:
        import fcntl

        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(
                f"{self.path}: another process writes to this experiment; wait for it, or choose another --out"
            ) from error

    def _whole_lines(self) -> list[bytes]:
        """Return the lines that end, with what a crash left behind them cut off."""
        self._file.seek(0)
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            self._file.truncate(whole)
        self._known: set[str] = set()
        return content[:whole].splitlines()

    def _take(self, number: int, text: bytes, collections: Mapping[str, str]) -> None:
        try:
            line = json.loads(text)
            if "collection" in line:
                name, fingerprint = line["collection"], line["fingerprint"]
            else:
                self.lines[key_of(line["settings"])] = line
                return
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                self.path,
                number,
                f"not a line of an experiment ({error!r})",
                "drop the line, or start with --overwrite",
            ) from error
        if collections.get(name, fingerprint) != fingerprint:
            raise UsageError(
                f"{self.path}: collection {name} has changed since this experiment was begun, so that its trials "
                "cannot be compared; choose another --out, or start anew with --overwrite"
            )
        self._known.add(name)

    def _write(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
