"""Tab-separated files without a header, as MS MARCO has them; which is which is said by columns, content and name.

2 columns   collection.tsv, queries.tsv: id, text; pairs of texts: query, relevant document
3 columns   triples of ids or of texts: query, relevant, not relevant (ANCE's: several, by commas); id, title, text
4 columns   msmarco-docs.tsv: id, address, title, body; top1000: query id, passage id, query, passage
"""

import re
from collections.abc import Callable, Iterator

from lorank.data.importing.found import Found, Judged, Place, Query, Row, RowError, Text
from lorank.data.importing.readers.tables import first_rows, is_header, records_of, table_rows
from lorank.data.importing.records import read_records, says_queries
from lorank.data.importing.registry import Options, Source, reader
from lorank.data.importing.values import read_id, read_text
from lorank.errors import DataError, OnBad, report_bad

Cells = list[str]


def _document(place: Place, cells: Cells) -> Iterator[Found]:
    title = cells[-2].strip() if len(cells) > 2 else ""
    names = (cells[1].strip(),) if len(cells) == 4 else ()
    text = cells[-1].strip()
    if not text and not title:
        raise RowError("the document is empty")
    yield Text(place, read_id(cells[0], "document id"), title, text, names)


def _query(place: Place, cells: Cells) -> Iterator[Found]:
    yield Query(place, read_id(cells[0], "query id"), read_text(cells[1], "query"))


def _pair(place: Place, cells: Cells) -> Iterator[Found]:
    yield Row(place, read_text(cells[0], "query"), [read_text(cells[1], "document")], [1.0])


def _triple_of_texts(place: Place, cells: Cells) -> Iterator[Found]:
    texts = [read_text(cell, "document") for cell in cells[1:]]
    if texts[0] == texts[1]:
        raise RowError("the relevant document is also the other one")
    yield Row(place, read_text(cells[0], "query"), texts, [1.0, 0.0])


def _triple_of_ids(place: Place, cells: Cells) -> Iterator[Found]:
    query, relevant = read_id(cells[0], "query id"), read_id(cells[1], "document id")
    yield Judged(place, query, relevant, 1.0)
    for other in cells[2].split(","):
        name = read_id(other, "document id")
        if name != relevant:
            yield Judged(place, query, name, 0.0)


def _top(place: Place, cells: Cells) -> Iterator[Found]:
    yield Query(place, read_id(cells[0], "query id"), read_text(cells[2], "query"))
    yield Text(place, read_id(cells[1], "document id"), "", read_text(cells[3], "document"))


Layout = Callable[[Place, Cells], Iterator[Found]]


def layout_of(rows: list[Cells], source: Source) -> Layout | None:
    """Return how the rows are read, None where columns, content and name leave it open."""
    width = len(rows[0])
    if source.kind == "queries" and width >= 2:
        return _query
    if source.kind == "documents" and width in (2, 3, 4):
        return _document
    columns = [[row[i].strip() for row in rows if len(row) == width] for i in range(width)]
    ids = [all(cell and " " not in cell for cell in column) for column in columns]
    if width == 2 and source.kind is None:
        if not ids[0]:
            return _pair
        asks = says_queries(source.words)
        return None if asks is None else (_query if asks else _document)
    if width == 3:
        if all(ids):
            return _triple_of_ids
        if ids[0] and says_queries(source.words) is False:
            return _document
        return _triple_of_texts if not ids[0] or "triple" in source.words else _document
    if width == 4 and ids[0] and ids[1]:
        return _document if any("/" in cell for cell in columns[1]) else _top
    return None


def _fits(source: Source) -> bool:
    if source.ending not in (".tsv", ".tab", ".txt", ".csv") and "triple" not in source.words:
        return False
    rows = first_rows(source, 1)
    return bool(rows) and "\t" in rows[0] and not is_header(rows[0].split("\t"), {})


@reader("marco", "tab-separated files without a header (MS MARCO, ANCE)", fits=_fits, order=1)
def read_marco(source: Source, options: Options, on_bad: OnBad) -> Iterator[Found]:
    """Yield what the rows of a file say; columns that are mapped by number come before its own layouts."""
    rows = table_rows(source, "\t", on_bad)
    if options.columns:
        yield from read_records(records_of(rows, source, options, on_bad), source, options, on_bad)
        return
    sample = [row.split("\t") for row in first_rows(source)]
    layout = layout_of(sample, source)
    if layout is None:
        raise _unknown(source, sample[0])
    for line, cells in rows:
        place = Place(source.path, line)
        try:
            if len(cells) != len(sample[0]):
                raise RowError(f"{len(cells)} columns where the first row has {len(sample[0])}", "part columns by tabs")
            found = list(layout(place, cells))
        except RowError as error:
            report_bad(DataError(source.path, line, str(error), error.remedy), "\t".join(cells), on_bad)
            continue
        yield from found


def _unknown(source: Source, cells: Cells) -> DataError:
    shown = ", ".join(repr(cell if len(cell) <= 40 else f"{cell[:37]}...") for cell in cells)
    path = source.path
    if len(cells) == 6 and re.fullmatch(r"Q0|0", cells[1]):
        return DataError(path, None, "this is a run", f"judge it: lorank evaluate --data DIR --run {path}")
    ways = f"lorank import queries={path} or documents={path}, or name columns: --columns query=1,document=2 --out DIR"
    problem = f"{len(cells)} columns without a header (first row: {shown}), and their name does not say what they are"
    return DataError(path, None, problem, f"say it: {ways}")
