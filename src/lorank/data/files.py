"""Text files out, written whole or not at all, plain or gzip; how files are read is in `lorank.reading`."""

import gzip
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from lorank.files import replaced_file
from lorank.reading import all_lines, decode, json_lines, lines, reading

__all__ = [
    "decode",
    "json_lines",
    "lines",
    "open_text",
    "reading",
    "write_json_lines",
    "write_text",
    "writing",
    "writing_bytes",
]


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
    return (text for _, text in all_lines(path))
