"""Answers kept, in memory or on disk as JSON lines, so that no question is paid for twice.

Each answer is one line, ``{"key", "kind", "answer", "malformed", "tokens_in", "tokens_out"}``, and a ``"sample"`` of
what was malformed, appended and flushed
as it arrives. A process that is killed loses at most the line it was writing: a torn last line is cut off when the
file is opened again. Minus infinity (no score) is written as null.
"""

import json
import math
from pathlib import Path
from typing import IO, NamedTuple, Self

from lorank.errors import DataError
from lorank.ranking.judges.question import KINDS, Answer


class Kept(NamedTuple):
    """One answer as the cache holds it: checked, whether it had been malformed, and the tokens it cost.

    ``sample`` shows what a malformed answer looked like.
    """

    answer: Answer
    malformed: bool
    tokens_in: int = 0
    tokens_out: int = 0
    sample: str = ""


class Cache:
    """Answers by key, in memory, and in the file at ``path`` if one is given (opened, or begun).

    >>> cache = Cache()
    >>> cache.put("a", "pairwise", Kept(1.0, False, 10, 1))
    >>> cache.get("a").answer, cache.get("b"), len(cache)
    (1.0, None, 1)
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = None if path is None else Path(path)
        self._kept: dict[str, Kept] = {}
        self._file: IO[bytes] | None = None
        if self.path is not None:
            self._open(self.path)

    def __len__(self) -> int:
        return len(self._kept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what is in memory can still be read."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def get(self, key: str) -> Kept | None:
        """Return the answer kept under ``key``, or None."""
        return self._kept.get(key)

    def put(self, key: str, kind: str, kept: Kept) -> None:
        """Keep an answer, and write it to the file before returning."""
        self._kept[key] = kept
        if self._file is not None:
            row = {
                "key": key,
                "kind": kind,
                "answer": _write(kept.answer),
                "malformed": kept.malformed,
                "tokens_in": kept.tokens_in,
                "tokens_out": kept.tokens_out,
            }
            if kept.sample:
                row["sample"] = kept.sample
            self._file.write(json.dumps(row).encode() + b"\n")
            self._file.flush()

    def _open(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        self._file.seek(0)
        whole = 0
        for number, line in enumerate(self._file, start=1):
            if not line.endswith(b"\n"):
                break
            self._kept.update([_read(path, number, line)])
            whole += len(line)
        self._file.truncate(whole)
        self._file.seek(0, 2)


def _read(path: Path, number: int, line: bytes) -> tuple[str, Kept]:
    try:
        row = json.loads(line)
        if row["kind"] not in KINDS:
            raise ValueError(row["kind"])
        return str(row["key"]), Kept(
            _restore(row["answer"]),
            bool(row["malformed"]),
            int(row["tokens_in"]),
            int(row["tokens_out"]),
            str(row.get("sample", "")),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            path, number, f"not an answer that a cache wrote ({error!r})", "delete the line, or name another cache file"
        ) from None


def _write(answer: Answer) -> object:
    if isinstance(answer, tuple):
        return [_write(part) for part in answer]
    return None if answer == -math.inf else answer


def _restore(value: object) -> Answer:
    if isinstance(value, list):
        return tuple(_restore(part) for part in value)  # type: ignore[return-value]
    if value is None:
        return -math.inf
    if isinstance(value, int | float):
        return value
    raise ValueError(value)
