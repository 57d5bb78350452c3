"""Yandex's relevance-prediction log: tab-separated queries and clicks of sessions.

    SessionID  TimePassed  Q  QueryID  RegionID  URL_1 ... URL_10
    SessionID  TimePassed  C  URL

A click belongs to the latest list of its session that shows the URL. Rows of a session follow each other; a click on
what
was not shown, a click of a session that is over, and a row that is earlier than the one above are left out and counted.
"""

from collections.abc import Iterator
from pathlib import Path

from lorank.data.click_logs.registry import LogCounts, log_format
from lorank.data.clicks import Impression
from lorank.errors import DataError
from lorank.reading import is_readable, lines

EXPECTED = "a row is: session, time, Q, query, region, URLs; or session, time, C, URL; separated by tabs"


def is_yandex(path: Path) -> bool:
    """Return whether the first row of a file is a query of a session, or a click where its query is missing."""
    if not is_readable(path):
        return False
    _, first = next(lines(path, lambda error, row: None), (0, ""))
    fields = first.split("\t")
    row = len(fields) > 5 if fields[2:3] == ["Q"] else fields[2:3] == ["C"] and len(fields) == 4
    return row and fields[1].isdigit()


@log_format("yandex", title="Yandex's relevance prediction: tab-separated Q and C rows", fits=is_yandex)
def read_yandex(path: Path, counts: LogCounts) -> Iterator[Impression]:
    """Yield one impression for each Q row, with the clicks that follow it."""
    session, latest, shown = "", 0.0, list[_List]()
    for line, text in lines(path):
        counts.rows += 1
        fields = text.rstrip("\n").split("\t")
        try:
            time = _check(path, line, fields)
        except DataError as error:
            counts.report(error, text)
            continue
        if fields[2] == "Q" and fields[0] != session:
            yield from _lists(shown, path, counts)
            session, latest, shown = fields[0], 0.0, []
        if fields[0] != session:
            counts.leave_out("clicks of a session that was over or had not begun")
            continue
        if time < latest:
            counts.leave_out("rows that are earlier than the one above")
            continue
        latest = time
        if fields[2] == "Q":
            shown.append(_List(line, session, time, fields[3], fields[5:]))
        elif not any(each.click(fields[3]) for each in reversed(shown)):
            counts.leave_out("clicks on documents that were not shown")
    yield from _lists(shown, path, counts)


def _lists(shown: "list[_List]", path: Path, counts: LogCounts) -> Iterator[Impression]:
    for each in shown:
        made = each.impression()
        if problem := made.problem():
            counts.report(DataError(path, each.line, problem, EXPECTED), made.doc_ids)
        else:
            yield made


class _List:
    """A shown list that may still be clicked."""

    def __init__(self, line: int, session: str, time: float, query: str, documents: list[str]) -> None:
        self.line, self.session, self.time, self.query, self.documents = line, session, time, query, documents
        self.clicks = [0] * len(documents)

    def click(self, document: str) -> bool:
        """Note a click; return whether the list shows the document."""
        if document not in self.documents:
            return False
        self.clicks[self.documents.index(document)] = 1
        return True

    def impression(self) -> Impression:
        """Return the list as it ended."""
        return Impression(
            self.session, self.query, tuple(self.documents), tuple(self.clicks), time=self.time, line=self.line
        )


def _check(path: Path, line: int, fields: list[str]) -> float:
    """Return the time of a row; raise DataError for one that is neither a query nor a click."""
    wanted = {"Q": len(fields) >= 6, "C": len(fields) == 4}
    if len(fields) < 4 or fields[2] not in wanted or not wanted[fields[2]]:
        raise DataError(path, line, f"the row has {len(fields)} fields and is no query or click", EXPECTED)
    if not fields[1].isdigit():
        raise DataError(path, line, f"the time {fields[1][:40]!r} is not a whole number", EXPECTED)
    return float(fields[1])
