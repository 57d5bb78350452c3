"""The formats of click logs: a plain dictionary, the decorator that fills it, and the choice among them.

A reader yields impressions one by one and keeps none. A row that cannot be read goes to ``LogCounts.report``, and the
list that it stands in is left out. What a log may hold without being wrong (a click on what was not shown, a row out of
order) is left out and counted.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lorank.data.clicks import Impression, read_clicks
from lorank.data.parquet import is_parquet
from lorank.errors import DataError, OnBad, report_bad
from lorank.reading import plain_name


@dataclass
class LogCounts:
    """What a reader left out, by what it was, and how many rows it read; ``on_bad`` receives bad rows."""

    rows: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    on_bad: OnBad | None = field(default=None, repr=False, compare=False)

    def report(self, error: DataError, row: object) -> None:
        """Call ``on_bad`` with a bad row, which is left out; raise its error where nothing receives it."""
        report_bad(error, row, self.on_bad)

    def leave_out(self, what: str) -> None:
        """Count one thing that is left out."""
        self.left_out[what] = self.left_out.get(what, 0) + 1

    def describe(self) -> str:
        """Return what was left out in words, empty where nothing was.

        >>> LogCounts(3, {"clicks on documents that were not shown": 2}).describe()
        'left out: 2 clicks on documents that were not shown'
        """
        parts = [f"{count:,} {what}" for what, count in sorted(self.left_out.items())]
        return f"left out: {', '.join(parts)}" if parts else ""


Reader = Callable[[Path, LogCounts], Iterator[Impression]]


@dataclass(frozen=True)
class LogFormat:
    """A format of click logs: what a person calls it, whether a file has it, how it is read."""

    name: str
    title: str
    fits: Callable[[Path], bool]
    read: Reader


LOG_FORMATS: dict[str, LogFormat] = {}
"""Every registered format under its name, in the order in which they are tried."""


def log_format(name: str, *, title: str, fits: Callable[[Path], bool]) -> Callable[[Reader], Reader]:
    """Decorate a reader to enter it in ``LOG_FORMATS``; ``fits`` looks at a file's first line."""

    def enter(reader: Reader) -> Reader:
        LOG_FORMATS[name] = LogFormat(name, title, fits, reader)
        return reader

    return enter


def _is_jsonl(path: Path) -> bool:
    return is_parquet(path) or plain_name(path).endswith((".jsonl", ".json", ".ndjson"))


@log_format("jsonl", title="lorank's click log, JSON Lines or Parquet", fits=_is_jsonl)
def read_jsonl(path: Path, counts: LogCounts) -> Iterator[Impression]:
    """Yield the impressions of a click log in JSON Lines or Parquet."""
    for impression in read_clicks(path, on_bad=counts.on_bad):
        counts.rows += 1
        yield impression
