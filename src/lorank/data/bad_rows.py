"""One report of all bad rows of a reading, in place of one error per start.

A reader calls ``on_bad(error, row)`` (`lorank.errors.OnBad`) and goes on. `BadRows` counts by kind, which is the
problem without its numbers and quoted values, and keeps the first three of each kind with file and line. Errors of a
whole file (no line) are raised at once.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lorank.errors import DataError, OnBad

SHOWN = 3
"""How many rows of a kind a report shows."""

_VALUE = re.compile(r"'[^']*'|\"[^\"]*\"|-?\d[\d.e+-]*|0x[0-9a-f]+")


def kind_of(problem: str) -> str:
    """Return a problem without what differs from row to row.

    >>> kind_of("the document 'd7' is judged twice for query 'q12'")
    'the document … is judged twice for query …'
    """
    return _VALUE.sub("…", problem)


class BadRows:
    """The bad rows of a reading: counted by kind, the first of each shown, all kept where they are to be written."""

    def __init__(self, *, keep: bool = False) -> None:
        self.keep = keep
        self.counts: dict[str, int] = {}
        self.first: dict[str, list[DataError]] = {}
        self.rows: list[tuple[DataError, object]] = []

    def __len__(self) -> int:
        return sum(self.counts.values())

    def add(self, error: DataError, row: object) -> None:
        """Count a bad row; raise the error where it is one of the whole file."""
        if error.line is None:
            raise error
        kind = kind_of(error.problem)
        self.counts[kind] = self.counts.get(kind, 0) + 1
        shown = self.first.setdefault(kind, [])
        if len(shown) < SHOWN:
            shown.append(error)
        if self.keep:
            self.rows.append((error, row))

    def report(self) -> str:
        """Return the counts by kind, the most frequent first, with the first rows of each and what to do."""
        lines = [f"{len(self)} bad {'row' if len(self) == 1 else 'rows'}:"]
        for kind, count in sorted(self.counts.items(), key=lambda pair: -pair[1]):
            shown = self.first[kind]
            lines.append(f"{count:>7}  {kind[:160]}")
            lines += [f"           {error.path}:{error.line}: {error.problem[:200]}" for error in shown]
            if shown[0].remedy:
                lines.append(f"           {shown[0].remedy}")
        return "\n".join(lines)

    def raise_report(self) -> None:
        """Raise the only error as it is, or the report of several; do nothing where there is none."""
        if not self.first:
            return
        first = next(iter(self.first.values()))[0]
        if len(self) == 1:
            raise first
        raise BadRowsError(self, first)

    def write(self, path: str | Path) -> None:
        """Write the kept rows as JSON lines of file, line, problem and row, all or nothing."""
        from lorank.data.files import write_json_lines

        write_json_lines(
            (
                {"file": str(error.path), "line": error.line, "problem": error.problem, "row": _as_json(row)}
                for error, row in self.rows
            ),
            path,
        )


def _as_json(row: object) -> object:
    if isinstance(row, bytes):
        return row.decode("utf-8", errors="replace").rstrip("\r\n")
    try:
        json.dumps(row, allow_nan=False)
    except (TypeError, ValueError):
        return repr(row)
    return row


class BadRowsError(DataError):
    """Several bad rows, with the report of them; ``path``, ``line`` and ``problem`` are those of the first."""

    def __init__(self, rows: BadRows, first: DataError) -> None:
        super().__init__(first.path, first.line, first.problem, first.remedy)
        self.rows = rows
        self.args = (
            f"{first.path}:{first.line}: {first.problem}, and {len(rows) - 1} more\n{rows.report()}\n"
            "mend them, or leave them out with --skip-bad (skip_bad=True in lorank.load), "
            "which keeps what is skipped in a file",
        )


@contextmanager
def collected(on_bad: OnBad | None) -> Iterator[OnBad]:
    """Yield ``on_bad``, or where it is None a collector whose report is raised when the block ends."""
    if on_bad is not None:
        yield on_bad
        return
    rows = BadRows()
    try:
        yield rows.add
    except DataError:
        rows.raise_report()
        raise
    rows.raise_report()
