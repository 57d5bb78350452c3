"""Text files of ballots, read as every file is, and the numbers in them."""

import csv
from collections.abc import Iterator
from pathlib import Path

from lorank.errors import DataError
from lorank.reading import all_lines, refuse_nul


def csv_rows(path: str | Path, delimiter: str | None = None) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, cells) of a file of comma- or tab-separated cells, blank lines too.

    ``delimiter`` None is a tab where the first line holds one, else a comma. A cell in quotes may hold line ends.
    """
    held = [(line, text) for line, text in all_lines(path)]
    for line, text in held:
        refuse_nul(path, line, text)
    if delimiter is None:
        delimiter = "\t" if held and "\t" in held[0][1] else ","
    reader = csv.reader((f"{text}\n" for _, text in held), delimiter=delimiter)
    try:
        for cells in reader:
            yield reader.line_num, cells
    except csv.Error as error:
        raise DataError(path, reader.line_num, f"no row of cells ({error})", "close every quote") from error
