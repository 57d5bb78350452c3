"""Reading a click log of any format."""

from collections.abc import Iterator
from pathlib import Path

from lorank.data.bad_rows import collected
from lorank.data.click_logs import formats
from lorank.data.click_logs.registry import LOG_FORMATS, LogCounts, LogFormat
from lorank.data.clicks import Impression
from lorank.errors import OnBad, UsageError, unknown_name

FORMATS = formats
"""The package whose import fills the registry."""


def guess_format(path: str | Path) -> str:
    """Return the name of the format of a log; raise UsageError where no format fits."""
    for name, each in LOG_FORMATS.items():
        if each.fits(Path(path)):
            return name
    titles = "; ".join(f"{name} ({each.title})" for name, each in LOG_FORMATS.items())
    raise UsageError(f"{path}: no format of click logs fits; they are {titles}")


def read_log(
    path: str | Path, format: str = "auto", counts: LogCounts | None = None, on_bad: OnBad | None = None
) -> Iterator[Impression]:
    """Yield the impressions of a click log, streamed.

    Args:
        path: The file, plain or compressed.
        format: A name in ``LOG_FORMATS``; ``auto`` looks at the file.
        counts: What receives the number of rows, and of what is left out.
        on_bad: What is called with each bad row; the list that it stands in is left out.

    Raises:
        UsageError: For an unknown format, or a file of none.
        DataError: After the last row, with one report of all bad rows, where ``on_bad`` is None.
    """
    name = guess_format(path) if format == "auto" else format
    if name not in LOG_FORMATS:
        raise unknown_name("format of click logs", name, ["auto", *LOG_FORMATS])
    return _read(LOG_FORMATS[name], Path(path), LogCounts() if counts is None else counts, on_bad)


def _read(format: LogFormat, path: Path, counts: LogCounts, on_bad: OnBad | None) -> Iterator[Impression]:
    with collected(on_bad) as counts.on_bad:
        yield from format.read(path, counts)
