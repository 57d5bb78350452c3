"""Text files of ballots: plain or gzip, strict UTF-8."""

import gzip
import io
import zlib
from pathlib import Path

from lorank.errors import DataError


def read_text(path: str | Path) -> str:
    """Return the text of a file, decompressed where it is gzip, without a byte order mark."""
    path = Path(path)
    if not path.is_file():
        raise DataError(path, None, "there is no such file", "check the path")
    raw = path.read_bytes()
    try:
        raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
        text = raw.decode("utf-8-sig")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            path, None, f"the gzip data is damaged or cut off ({error})", "copy or compress the file again"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            path,
            1 + raw[: error.start].count(b"\n"),
            f"not UTF-8 (byte 0x{raw[error.start]:02x})",
            "convert the file to UTF-8, for example with iconv",
        ) from error
    return io.IncrementalNewlineDecoder(None, translate=True).decode(text, final=True)
