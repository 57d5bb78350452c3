"""Text files in: plain or compressed, from a disk or a pipe, strict UTF-8, streamed.

Compression is known by the first bytes, whatever the name: gzip, bzip2, xz and Zstandard (the extra ``lorank[zst]``).
``-`` is the standard input. A pipe (``-``, ``<(zcat x)``, a named pipe) can be read once, while readers look at a
file's beginning before they choose how to read it and at its lines again for an error; so what comes out of a pipe is
kept in a temporary file, which goes when the process ends. A leaf: it knows nothing of lorank but the errors.
"""

import bz2
import gzip
import importlib
import io
import json
import logging
import lzma
import math
import os
import re
import shutil
import stat
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from lorank.errors import DataError, OnBad, UsageError, report_bad

logger = logging.getLogger(__name__)


def _open_zstd(file: BinaryIO) -> Any:
    try:
        zstandard = importlib.import_module("zstandard")
    except ImportError as error:
        raise UsageError(
            "Zstandard files need the package zstandard: pip install 'lorank[zst]', or unpack the file with unzstd"
        ) from error
    return zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)


PACKINGS: dict[bytes, tuple[str, Callable[[Any], Any]]] = {
    b"\x1f\x8b": ("gzip", lambda file: gzip.GzipFile(fileobj=file)),
    b"BZh": ("bzip2", bz2.BZ2File),
    b"\xfd7zXZ\x00": ("xz", lzma.LZMAFile),
    b"\x28\xb5\x2f\xfd": ("Zstandard", _open_zstd),
}
"""The first bytes of a compressed file: what it is called, and what opens it over a file of bytes."""

REFUSED: dict[bytes, tuple[str, str]] = {
    b"\xff\xfe": ("UTF-16 text", "convert the file to UTF-8: iconv -f UTF-16 -t UTF-8"),
    b"\xfe\xff": ("UTF-16 text", "convert the file to UTF-8: iconv -f UTF-16 -t UTF-8"),
    b"PK\x03\x04": ("a zip archive", "unpack it and give the file inside"),
    b"7z\xbc\xaf": ("a 7z archive", "unpack it and give the file inside"),
    b"Rar!": ("a RAR archive", "unpack it and give the file inside"),
    b"%PDF-": ("a PDF file", "import it: lorank import FILE.pdf --out DIR"),
    b"PAR1": ("a Parquet file", "call it NAME.parquet, or import it: lorank import FILE --out DIR"),
    b"\xff\xff\xff\xff": ("an Arrow stream", "import it: lorank import FILE --out DIR"),
    b"ARROW1": ("an Arrow file", "import it: lorank import FILE --out DIR"),
    b"\x89PNG": ("a PNG picture", "give a file of text"),
    b"\xff\xd8\xff": ("a JPEG picture", "give a file of text"),
    b"GIF8": ("a GIF picture", "give a file of text"),
    b"SQLite format": ("an SQLite database", "write its tables as CSV: sqlite3 -csv -header FILE 'SELECT ...'"),
    b"\xd0\xcf\x11\xe0": ("an old Office document", "save it as CSV or text"),
    b"\x89HDF": ("an HDF5 file", "write its tables as Parquet or CSV"),
    b"\x93NUMPY": ("a NumPy array", "write it as CSV or Parquet"),
    b"\x7fELF": ("a program", "give a file of text"),
    b"\x80\x04\x95": ("a pickle", "write its content as JSON lines, CSV or Parquet"),
    b"\x80\x05\x95": ("a pickle", "write its content as JSON lines, CSV or Parquet"),
}
"""The first bytes of what is no text: what it is, and what to do."""

ENDINGS = (".gz", ".bz2", ".xz", ".zst")
"""What a compressed file's name ends in."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_HALF = re.compile("[\ud800-\udfff]")


def plain_name(path: str | Path) -> str:
    """Return the file's name without the ending of its compression.

    >>> plain_name("runs/bm25.run.xz")
    'bm25.run'
    """
    name = Path(path).name
    return next((name.removesuffix(end) for end in ENDINGS if name.endswith(end)), name)


def is_readable(path: str | Path) -> bool:
    """Return whether there is a file or a pipe to read at ``path``; ``-`` is the standard input."""
    path = Path(path)
    return path.is_file() or _is_pipe(path)


def _is_pipe(path: Path) -> bool:
    if str(path) == "-" and not path.exists():
        return True
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)


_KEPT: dict[tuple[int, int], Any] = {}


def local_file(path: str | Path) -> Path:
    """Return ``path`` where it is a file, and for a pipe the temporary file that holds what came out of it.

    Raises DataError where there is neither.
    """
    path = Path(path)
    if path.is_file():
        return path
    if not _is_pipe(path):
        problem = "this is a folder" if path.is_dir() else "there is no such file"
        raise DataError(path, None, problem, "check the path")
    there = _identity(path)
    if there not in _KEPT:
        kept = tempfile.NamedTemporaryFile(prefix="lorank-", suffix=".pipe")  # noqa: SIM115  it lives on
        if str(path) == "-":
            shutil.copyfileobj(sys.stdin.buffer, kept)
        else:
            with path.open("rb") as pipe:
                shutil.copyfileobj(pipe, kept)
        kept.flush()
        _KEPT[there] = kept
    return Path(_KEPT[there].name)


def _identity(path: Path) -> tuple[int, int]:
    try:
        state = os.fstat(sys.stdin.fileno()) if str(path) == "-" else path.stat()
    except (OSError, ValueError):  # a stand-in for the standard input, as in tests
        return (-1, id(sys.stdin))
    return state.st_dev, state.st_ino


@contextmanager
def reading(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file or pipe for reading bytes, decompressed; raise DataError where it cannot be read."""
    packing = ""
    try:
        with local_file(path).open("rb") as file:
            head = file.read(16)
            file.seek(0)
            _refuse_other_kinds(path, head)
            packing, unpack = next((how for magic, how in PACKINGS.items() if head.startswith(magic)), ("", None))
            if unpack is None:
                yield file
                return
            with unpack(file) as unpacked:
                yield unpacked if packing != "Zstandard" else _lines_of(unpacked)
    except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
        _refuse_damage(path, packing, error)
    except PermissionError as error:
        raise DataError(path, None, "it may not be read", "change its permissions") from error
    except OSError as error:
        if packing != "bzip2" or error.errno is not None:
            raise
        _refuse_damage(path, packing, error)
    except Exception as error:
        if packing != "Zstandard" or type(error).__name__ != "ZstdError":
            raise
        _refuse_damage(path, packing, error)


def _lines_of(unpacked: Any) -> Any:
    return io.BufferedReader(unpacked)


def _refuse_other_kinds(path: str | Path, head: bytes) -> None:
    for magic, (kind, remedy) in REFUSED.items():
        if head.startswith(magic):
            raise DataError(path, 1, f"this is {kind}", remedy)


def _refuse_damage(path: str | Path, packing: str, error: Exception) -> NoReturn:
    raise DataError(
        path, None, f"the {packing} data is damaged or cut off ({error})", "copy or compress the file again"
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
        remedy = "convert the file to UTF-8, for example with iconv"
        if _CONTROL.search(raw):
            problem += f", and no text either: the line begins with the bytes {raw[:8].hex(' ')}"
            remedy = "give a file of text"
        raise DataError(path, line, problem, remedy) from error


def all_lines(path: str | Path, on_bad: OnBad | None = None) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, text without its line end) of every line; a byte order mark in front is dropped.

    Raises DataError where the file is missing or damaged, and for a line that is not UTF-8 or holds a carriage return;
    such lines go to ``on_bad`` where it is given.
    """
    with reading(path) as file:
        for number, raw in enumerate(file, start=1):
            try:
                text = _line(raw, path, number)
            except DataError as error:
                report_bad(error, raw, on_bad)
                continue
            yield number, text


def _line(raw: bytes, path: str | Path, number: int) -> str:
    text = decode(raw, path, number).rstrip("\r\n")
    if number == 1:
        text = text.removeprefix("\ufeff")
    if "\r" in text:
        raise DataError(
            path,
            number,
            "a carriage return within the line",
            "end lines with a newline, for example with dos2unix or mac2unix",
        )
    return text


def lines(path: str | Path, on_bad: OnBad | None = None) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, text without its line end) of every line that is not blank; see ``all_lines``."""
    return ((number, text) for number, text in all_lines(path, on_bad) if text and not text.isspace())


def read_whole(path: str | Path) -> str:
    """Return a file's text with line ends of one newline."""
    return "\n".join(text for _, text in all_lines(path))


def refuse_nul(path: str | Path, line: int, text: str) -> None:
    """Raise DataError for a NUL character, which no id and no number holds."""
    if "\0" in text:
        raise DataError(path, line, "a NUL character", "is the file binary, or UTF-16? convert it to UTF-8 text")


def json_object(path: str | Path, line: int, text: str, expected: str) -> tuple[dict[str, Any], int]:
    """Return the JSON object in a line, and how many halves of characters in it were replaced by U+FFFD.

    Args:
        path: The file that the line comes from, which an error names.
        line: The number of the line, counted from 1.
        text: The line.
        expected: What a line should hold, in words for an error.

    Raises:
        DataError: If the JSON is broken or nested too deeply, is another value than an object, or holds a whole number
            that is too long to be read.
    """
    remedy = f"write one JSON object a line: {expected}"
    try:
        row = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(path, line, f"broken JSON ({error.msg} at column {error.colno})", remedy) from error
    except RecursionError as error:
        raise DataError(path, line, "JSON that is nested too deeply", remedy) from error
    except ValueError as error:
        raise DataError(path, line, f"broken JSON ({str(error)[:100]})", remedy) from error
    if not isinstance(row, dict):
        raise DataError(path, line, f"a JSON {type(row).__name__} where an object was expected", remedy)
    return _without_halves(row) if "\\u" in text else (row, 0)


def _without_halves(row: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """Return the object without lone surrogates: halves of a character, as text cut in its middle leaves them."""
    count = 0

    def whole(value: Any) -> Any:
        nonlocal count
        if isinstance(value, str):
            clean, found = _HALF.subn("\ufffd", value)
            count += found
            return clean
        if isinstance(value, list):
            return [whole(each) for each in value]
        if isinstance(value, dict):
            return {whole(key): whole(each) for key, each in value.items()}
        return value

    return whole(row), count


def json_lines(path: str | Path, expected: str, on_bad: OnBad | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) of a JSON Lines file; ``expected`` says in errors what a line should hold.

    A line that is no object goes to ``on_bad``, where it is given. Halves of characters are replaced by U+FFFD, and a
    warning tells how many there were and where the first was.
    """
    halves, first = 0, 0
    for number, text in lines(path, on_bad):
        try:
            row, found = json_object(path, number, text, expected)
        except DataError as error:
            report_bad(error, text, on_bad)
            continue
        first = first or (number if found else 0)
        halves += found
        yield number, row
    if halves:
        logger.warning(
            "%s:%d: %d halves of characters (lone surrogates) from this line on were replaced by U+FFFD",
            path,
            first,
            halves,
        )


def parse_number(text: str) -> float | None:
    """Return the finite number that ``text`` writes in plain decimal notation, None where it writes none.

    What Python takes beyond that is refused: ``1_0``, digits of other scripts, ``nan``, ``inf``, and numbers too large
    for a double.

    >>> [parse_number(text) for text in ("-1.5e3", " 2 ", "1_0", "nan", "9" * 400)]
    [-1500.0, 2.0, None, None, None]
    """
    text = text.strip(" \t")
    if not _NUMBER.fullmatch(text):
        return None
    number = float(text)
    return number if math.isfinite(number) else None


def short(text: str) -> str:
    """Return ``text`` as messages show it: quoted, and cut where it is long.

    >>> short("9" * 400)
    "'999999999999999999999999999999...' (400 characters)"
    """
    return repr(text) if len(text) <= 60 else f"'{text[:30]}...' ({len(text)} characters)"
