"""A plain CSV or TSV as an analyst would export it, with commas, semicolons or tabs: one shown document a row.

Columns ``query``, ``document``, ``position``, ``clicked``, by these or other common names, and where there are any
``session``, ``time``, ``device``, ``propensity``. The rows of a list follow each other: another session or query
begins a new list, and so does a position that is not below the one above.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

from lorank.data.click_logs.columns import NumberedLines, parse_time
from lorank.data.click_logs.registry import LogCounts, log_format
from lorank.data.clicks import MOST_POSITIONS, Impression
from lorank.errors import DataError
from lorank.reading import all_lines, is_readable, parse_number

NAMES = {
    "query": ("query", "query_id", "qid", "search", "search_term", "keyword"),
    "document": ("document", "document_id", "doc_id", "docid", "item", "item_id", "url", "product_id", "result"),
    "position": ("position", "rank", "pos", "place"),
    "clicked": ("clicked", "click", "clicks", "is_clicked", "was_clicked"),
    "session": ("session", "session_id", "impression", "impression_id", "search_id"),
    "time": ("time", "timestamp", "seconds"),
    "device": ("device", "platform"),
    "propensity": ("propensity", "propensity_score", "examination"),
}
NEEDED = ("query", "document", "position", "clicked")
REMEDY = "columns: query, document, position from 1, clicked 0 or 1; and session, time, device, propensity where known"
QUOTES = "write a text that holds the separator in double quotes"
REMEMBERED = 10_000
"""How many sessions that are over are remembered, to count those that come back."""


def is_table(path: Path) -> bool:
    """Return whether the first row of a file names a query, a document, and a click or a position."""
    if not is_readable(path):
        return False
    _, first = next(all_lines(path, lambda error, row: None), (0, ""))
    roles = _roles(next(csv.reader([first], delimiter=_delimiter(first)), []))
    return "query" in roles and "document" in roles and ("clicked" in roles or "position" in roles)


def _delimiter(header: str) -> str:
    """Return what separates the columns of a header: tabs, semicolons or commas."""
    return "\t" if "\t" in header else ";" if ";" in header and "," not in header else ","


def _roles(header: list[str]) -> dict[str, int]:
    plain = [name.strip().lower().replace(" ", "_") for name in header]
    found = {role: [plain.index(name) for name in names if name in plain] for role, names in NAMES.items()}
    return {role: places[0] for role, places in found.items() if places}


@log_format("table", title="CSV or TSV of query, document, position, clicked", fits=is_table)
def read_table(path: Path, counts: LogCounts) -> Iterator[Impression]:
    """Yield an impression for each run of rows that is one list."""
    numbered = NumberedLines(all_lines(path, counts.on_bad))
    first = next(numbered, "")
    delimiter = _delimiter(first)
    header = next(csv.reader([first], delimiter=delimiter), [])
    roles = _roles(header)
    missing = [role for role in NEEDED if role not in roles]
    if missing:
        raise DataError(path, 1, f"there is no column for {missing[0]}", REMEDY)
    group, over = _Group(path, 1, "", ""), dict[str, None]()
    for row in csv.reader(numbered, delimiter=delimiter):
        if not row:
            continue
        line = numbered.number
        counts.rows += 1
        cell = {role: row[at].strip() if at < len(row) else "" for role, at in roles.items()}
        if group.ends_at(cell):
            yield from group.impressions(counts)
            session = cell.get("session", "")
            if session and session != group.session:
                if session in over:
                    counts.leave_out("joins of rows to a session that had ended: they are lists of their own")
                over[session] = None
                if len(over) > REMEMBERED:
                    del over[next(iter(over))]
            group = _Group(path, line, session or f"line-{line}", cell["query"])
        try:
            if len(row) > len(header):
                raise DataError(path, line, f"the row has {len(row)} cells, the header {len(header)}", QUOTES)
            group.add(line, cell)
        except DataError as error:
            counts.report(error, cell)
            group.whole = False
    yield from group.impressions(counts)


class _Group:
    """The rows of one list."""

    def __init__(self, path: Path, line: int, session: str, query: str) -> None:
        self.path, self.line, self.session, self.query = path, line, session, query
        self.documents: list[str] = []
        self.positions: list[int] = []
        self.clicks: list[int] = []
        self.propensities: list[float] = []
        self.whole = True
        self.time: float | None = None
        self.device: str | None = None

    def ends_at(self, cell: dict[str, str]) -> bool:
        """Return whether a row begins another list."""
        if (self.whole and not self.documents) or cell["query"] != self.query:
            return True
        if "session" in cell:
            return cell["session"] != self.session
        position = parse_number(cell["position"])
        return position is not None and position <= max(self.positions, default=0)

    def add(self, line: int, cell: dict[str, str]) -> None:
        """Add a row; raise DataError with its line where a value cannot be."""
        position, clicked = self._whole(line, cell, "position"), self._whole(line, cell, "clicked")
        if position < 1:
            raise DataError(
                self.path, line, f"the position is {position}, and they are counted from 1", "add 1 to each"
            )
        if position > MOST_POSITIONS:
            raise DataError(
                self.path, line, f"the position {position} is more than {MOST_POSITIONS:,}, the most", REMEDY
            )
        if clicked not in (0, 1):
            raise DataError(self.path, line, f"clicked is {clicked}, which is neither 0 nor 1", REMEDY)
        if not cell["document"] or not cell["query"]:
            raise DataError(self.path, line, "the query or the document is empty", REMEDY)
        if cell["document"] in self.documents:
            raise DataError(self.path, line, f"the list shows {cell['document'][:60]!r} twice", REMEDY)
        if position in self.positions:
            raise DataError(self.path, line, f"the list has two documents at position {position}", REMEDY)
        chance = self._number(line, cell, "propensity") if cell.get("propensity") else None
        if chance is not None and not 0 < chance <= 1:
            raise DataError(self.path, line, f"the propensity {chance} is not above 0 and at most 1", REMEDY)
        if len(self.propensities) != (0 if chance is None else len(self.documents)):
            raise DataError(self.path, line, "some rows of the list state a propensity and others none", REMEDY)
        if self.time is None and cell.get("time"):
            self.time = self._time(line, cell["time"])
        self.documents.append(cell["document"])
        self.positions.append(position)
        self.clicks.append(clicked)
        if chance is not None:
            self.propensities.append(chance)
        self.device = self.device or cell.get("device") or None

    def _time(self, line: int, text: str) -> float:
        try:
            return parse_time(text)
        except ValueError as error:
            raise DataError(self.path, line, str(error), REMEDY) from error

    def _number(self, line: int, cell: dict[str, str], role: str) -> float:
        value = parse_number(cell[role])
        if value is None:
            raise DataError(self.path, line, f"the {role} {cell[role][:40]!r} is missing or no number", REMEDY)
        return float(value)

    def _whole(self, line: int, cell: dict[str, str], role: str) -> int:
        words = {"true": 1.0, "false": 0.0}
        value = words.get(cell[role].lower()) if role == "clicked" else None
        number = self._number(line, cell, role) if value is None else value
        if number != int(number):
            raise DataError(self.path, line, f"the {role} {cell[role][:40]!r} is not a whole number", REMEDY)
        return int(number)

    def impressions(self, counts: LogCounts) -> Iterator[Impression]:
        """Yield the list where all its rows can be read and it can be one."""
        if not (self.documents and self.whole):
            return
        made = Impression(
            self.session,
            self.query,
            tuple(self.documents),
            tuple(self.clicks),
            tuple(self.propensities) or None,
            positions=tuple(self.positions),
            time=self.time,
            device=self.device,
            line=self.line,
        )
        if problem := made.problem():
            counts.report(DataError(self.path, self.line, problem, REMEDY), made.doc_ids)
        else:
            yield made
