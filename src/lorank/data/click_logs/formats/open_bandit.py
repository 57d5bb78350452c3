"""Open Bandit's CSV: one shown item a row, with the propensity that the logging policy gave it.

Columns ``timestamp``, ``item_id``, ``position``, ``click``, ``propensity_score``; others are passed over. There are no
queries: all rows have one, called ``open-bandit``.
"""

import csv
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from lorank.data.click_logs.registry import LogCounts, log_format
from lorank.data.clicks import Impression
from lorank.errors import DataError
from lorank.reading import all_lines, is_readable

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
    rows = csv.DictReader(text for _, text in all_lines(path))
    for line, row in enumerate(rows, start=2):
        counts.rows += 1
        try:
            stamp = row.get("timestamp")
            made = Impression(
                str(line),
                QUERY,
                (row["item_id"],),
                (int(row["click"]),),
                (float(row["propensity_score"]),),
                positions=(int(row["position"]),),
                time=datetime.fromisoformat(stamp).timestamp() if stamp else None,
                line=line,
            )
        except (TypeError, ValueError) as error:
            counts.report(DataError(path, line, f"a value is missing or no number ({error})", REMEDY), row)
            continue
        if problem := made.problem():
            counts.report(DataError(path, line, problem, REMEDY), row)
        else:
            yield made
