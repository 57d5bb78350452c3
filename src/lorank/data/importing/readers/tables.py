"""CSV and TSV files with a header, or with columns mapped by number; the separator is found in the first line."""

import csv
import sys
from collections.abc import Iterator
from itertools import islice

from lorank.data.importing.columns import roles_of
from lorank.data.importing.found import Found, Record
from lorank.data.importing.records import read_records
from lorank.data.importing.registry import Options, Source, reader
from lorank.errors import DataError, OnBad, report_bad
from lorank.reading import all_lines, lines, parse_number, refuse_nul

SEPARATORS = ",;\t|"
_LOOKED_AT = 100


def first_rows(source: Source, most: int = _LOOKED_AT) -> list[str]:
    """Return the first lines of a file that are not blank."""
    return [text for _, text in islice(lines(source.path), most)]


def is_header(cells: list[str], mapped: dict[str, str]) -> bool:
    """Return whether a first row names columns: one has a known name, all are short and none is a number.

    >>> is_header(["query-id", "corpus-id", "score"], {}), is_header(["12", "question"], {})
    (True, False)
    """
    plain = all(len(cell) <= 60 and parse_number(cell) is None for cell in cells)
    return plain and bool(roles_of(cells, mapped)) and len(set(cells)) == len(cells)


def separator_of(line: str) -> str:
    """Return the separator that a line has most of, a comma where it has none."""
    return max(SEPARATORS, key=lambda each: (line.count(each), -SEPARATORS.index(each)))


def _is_quoted(rows: list[str], separator: str) -> bool:
    """Return whether cells are quoted: a cell begins with a quote, and quotes come in pairs throughout."""
    begins = any(cell.startswith('"') for row in rows for cell in row.split(separator))
    return separator != "\t" or (begins and sum(row.count('"') for row in rows) % 2 == 0)


def table_rows(source: Source, separator: str, on_bad: OnBad) -> Iterator[tuple[int, list[str]]]:
    """Yield (line from 1, cells) of a file of separated values; rows without any cell are passed over."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    quoted = _is_quoted(first_rows(source), separator)
    where = [0]

    def text() -> Iterator[str]:
        for number, line in all_lines(source.path, on_bad):
            try:
                refuse_nul(source.path, number, line)
            except DataError as error:
                report_bad(error, line, on_bad)
                continue
            where[0] = number
            yield f"{line}\n"

    rows = csv.reader(text(), delimiter=separator, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)
    while True:
        before = where[0]
        try:
            cells = next(rows, None)
        except csv.Error as error:
            report_bad(DataError(source.path, where[0], f"not a row of a table ({error})", "mend it"), "", on_bad)
            continue
        if cells is None:
            return
        if any(cell.strip() for cell in cells):
            yield before + 1, cells


def records_of(
    rows: Iterator[tuple[int, list[str]]], source: Source, options: Options, on_bad: OnBad
) -> Iterator[tuple[int, Record]]:
    """Yield (line, record) of rows; without a header, and with mapped numbers, columns are called "1", "2", ...

    Args:
        rows: The number of the line, counted from 1, and the cells of each row.
        source: The file, which errors name.
        options: How sources are read, of which the mapped columns are used.
        on_bad: It receives the error of a row with another number of columns, and its cells.
    """
    by_number = bool(options.columns) and all(column.isdigit() for column in options.columns.values())
    names: list[str] | None = None
    for line, cells in rows:
        if names is None:
            names = [str(i) for i in range(1, len(cells) + 1)] if by_number else [cell.strip() for cell in cells]
            if not by_number:
                continue
        if len(cells) != len(names):
            problem = f"{len(cells)} columns where the header has {len(names)}"
            remedy = "quote cells that hold the separator, and give every row all columns"
            report_bad(DataError(source.path, line, problem, remedy), cells, on_bad)
            continue
        yield line, dict(zip(names, cells, strict=True))


def _fits(source: Source) -> bool:
    if source.ending == ".csv":
        return True
    if source.ending not in (".tsv", ".tab"):
        return False
    first = first_rows(source, 1)
    return bool(first) and is_header(first[0].split("\t"), {})


@reader("table", "CSV and TSV tables with a header", fits=_fits)
def read_table(source: Source, options: Options, on_bad: OnBad) -> Iterator[Found]:
    """Yield what the rows of a table say."""
    first = first_rows(source, 1)
    if not first:
        raise DataError(source.path, None, "the file is empty", "give a table with a header")
    separator = "\t" if source.ending in (".tsv", ".tab") else separator_of(first[0])
    rows = table_rows(source, separator, on_bad)
    yield from read_records(records_of(rows, source, options, on_bad), source, options, on_bad)
