"""Reading a click log of any format."""

from collections.abc import Iterator
from pathlib import Path

from lorank.data.click_logs import formats
from lorank.data.click_logs.registry import LOG_FORMATS, LogCounts
from lorank.data.clicks import Impression
from lorank.errors import UsageError, unknown_name

FORMATS = formats
"""The package whose import fills the registry."""


def guess_format(path: str | Path) -> str:
    """Return the name of the format of a log; raise UsageError where no format fits."""
    for name, each in LOG_FORMATS.items():
        if each.fits(Path(path)):
            return name
    titles = "; ".join(f"{name} ({each.title})" for name, each in LOG_FORMATS.items())
    raise UsageError(f"{path}: no format of click logs fits; they are {titles}")


def read_log(path: str | Path, format: str = "auto", counts: LogCounts | None = None) -> Iterator[Impression]:
    """Yield the impressions of a click log, streamed.

    Args:
        path: The file, plain or compressed.
        format: A name in ``LOG_FORMATS``; ``auto`` looks at the file.
        counts: What receives the number of rows, and of what is left out.

    Raises:
        UsageError: For an unknown format, or a file of none.
        DataError: With file and line, for a row that cannot be read.
    """
    name = guess_format(path) if format == "auto" else format
    if name not in LOG_FORMATS:
        raise unknown_name("format of click logs", name, ["auto", *LOG_FORMATS])
    return LOG_FORMATS[name].read(Path(path), LogCounts() if counts is None else counts)
