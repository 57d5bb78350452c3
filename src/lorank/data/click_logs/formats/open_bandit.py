"""Open Bandit's CSV: one shown item a row, with the propensity that the logging policy gave it.

Columns ``timestamp``, ``item_id``, ``position``, ``click``, ``propensity_score``; others are passed over. There are no
queries: all rows have one, called ``open-bandit``.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

from lorank.data.click_logs.columns import NumberedLines, parse_time
from lorank.data.click_logs.registry import LogCounts, log_format
from lorank.data.clicks import Impression
from lorank.errors import DataError
from lorank.reading import all_lines, is_readable, parse_number

COLUMNS = ("item_id", "position", "click", "propensity_score")
QUERY = "open-bandit"
REMEDY = "columns: timestamp, item_id, position from 1, click 0 or 1, propensity_score above 0 and at most 1"


def is_open_bandit(path: Path) -> bool:
    """Return whether the first row of a file names Open Bandit's columns."""
    if not is_readable(path):
        return False
    _, first = next(all_lines(path, lambda error, row: None), (0, ""))
    return set(COLUMNS) <= set(first.split(","))


@log_format("open-bandit", title="Open Bandit's CSV with propensity_score", fits=is_open_bandit)
def read_open_bandit(path: Path, counts: LogCounts) -> Iterator[Impression]:
    """Yield one impression of one document for each row."""
    numbered = NumberedLines(all_lines(path, counts.on_bad))
    for row in csv.DictReader(numbered):
        line = numbered.number
        counts.rows += 1
        try:
            stamp = row.get("timestamp")
            made = Impression(
                str(line),
                QUERY,
                (row["item_id"],),
                (_whole(row, "click"),),
                (_number(row, "propensity_score"),),
                positions=(_whole(row, "position"),),
                time=parse_time(stamp) if stamp else None,
                line=line,
            )
        except ValueError as error:
            counts.report(DataError(path, line, str(error), REMEDY), row)
            continue
        if problem := made.problem():
            counts.report(DataError(path, line, problem, REMEDY), row)
        else:
            yield made


def _number(row: dict[str, str | None], column: str) -> float:
    """Return the number in a column; raise ValueError for none."""
    value = parse_number(row[column] or "")
    if value is None:
        raise ValueError(f"the {column} {(row[column] or '')[:40]!r} is missing or no number")
    return value


def _whole(row: dict[str, str | None], column: str) -> int:
    """Return the whole number in a column; raise ValueError for none."""
    value = _number(row, column)
    if value != int(value):
        raise ValueError(f"the {column} {value} is not a whole number")
    return int(value)
