"""Text files in and out: plain or gzip, strict UTF-8, streamed; written whole or not at all."""

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from lorank.errors import DataError
from lorank.files import replaced_file

_GZIP_MAGIC = b"\x1f\x8b"


def is_gzip(path: str | Path) -> bool:
    """Return whether the file's first two bytes say gzip, whatever its name."""
    with Path(path).open("rb") as file:
        return file.read(2) == _GZIP_MAGIC


@contextmanager
def reading(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file for reading bytes, decompressed where it is gzip; raise DataError where it cannot be read."""
    path = Path(path)
    if not path.is_file():
        raise DataError(path, None, "there is no such file", "check the path")
    try:
        with gzip.open(path, "rb") if is_gzip(path) else path.open("rb") as file:
            yield file  # type: ignore[misc]
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            path, None, f"the gzip data is damaged or cut off ({error})", "copy or compress the file again"
        ) from error


def decode(raw: bytes, path: str | Path, line: int) -> str:
    """Return ``raw`` as text; raise DataError naming the byte where it is not UTF-8.

    >>> decode(b"caf\\xe9", "queries.tsv", 3)
    Traceback (most recent call last):
    lorank.errors.DataError: queries.tsv:3: not UTF-8 (byte 0xe9 at column 4); convert the file to UTF-8...
    """
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        problem = f"not UTF-8 (byte 0x{raw[error.start]:02x} at column {error.start + 1})"
        raise DataError(path, line, problem, "convert the file to UTF-8, for example with iconv") from error


def lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, text without its line end) of every line that is not blank.

    The file is streamed; a byte order mark at its start is dropped. Raises DataError where the file is
    missing, not UTF-8, or damaged gzip.
    """
    with reading(path) as file:
        for number, raw in enumerate(file, start=1):
            text = decode(raw, path, number).rstrip("\r\n")
            if number == 1:
                text = text.removeprefix("\ufeff")
            if text and not text.isspace():
                yield number, text


def json_lines(path: str | Path, expected: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) of a JSON Lines file; ``expected`` says in errors what a line should hold."""
    for number, text in lines(path):
        try:
            row = json.loads(text)
        except json.JSONDecodeError as error:
            raise DataError(
                path,
                number,
                f"broken JSON ({error.msg} at column {error.colno})",
                f"write one JSON object a line: {expected}",
            ) from error
        if not isinstance(row, dict):
            raise DataError(
                path,
                number,
                f"a JSON {type(row).__name__} where an object was expected",
                f"write one JSON object a line: {expected}",
            )
        yield number, row


@contextmanager
def writing_bytes(path: str | Path) -> Iterator[BinaryIO]:
    """Open ``path`` for writing bytes, all or nothing (see `lorank.files`); compressed where its name ends in ``.gz``.

    Equal content gives equal bytes: the gzip header carries neither name nor time.
    """
    with replaced_file(path) as stage, stage.open("wb") as raw:
        if Path(path).suffix == ".gz":
            with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as file:
                yield file  # type: ignore[misc]
        else:
            yield raw


class _Utf8Writer:
    """The write side of a text file over bytes, with line ends left as they are."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        self._file.write(text.encode("utf-8"))
        return len(text)


@contextmanager
def writing(path: str | Path) -> Iterator[TextIO]:
    """Open ``path`` for writing UTF-8 text, all or nothing (see ``writing_bytes``)."""
    with writing_bytes(path) as file:
        yield _Utf8Writer(file)  # type: ignore[misc]


def write_json_lines(rows: Iterable[dict[str, Any]], path: str | Path) -> None:
    """Write one JSON object a line, all or nothing; NaN and infinity are refused."""
    with writing(path) as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: str | Path, text: str) -> None:
    """Write one UTF-8 text, all or nothing (see ``writing_bytes``)."""
    with writing(path) as file:
        file.write(text)


def open_text(path: str | Path) -> Iterator[str]:
    """Yield every line of a text file, blank ones too, without its line end; raises as ``lines`` does."""
    with reading(path) as file:
        for number, raw in enumerate(file, start=1):
            text = decode(raw, path, number).rstrip("\r\n")
            yield text.removeprefix("\ufeff") if number == 1 else text
