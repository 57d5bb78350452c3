"""Judgment files: TREC's four columns, or three with or without BEIR's header."""

import re
from collections.abc import Iterator

from lorank.data.importing.found import Asked, Found, Judged, Place
from lorank.data.importing.readers.tables import first_rows
from lorank.data.importing.registry import Options, Source, reader
from lorank.data.importing.values import as_id
from lorank.data.trec import judgments
from lorank.errors import OnBad

_ROW = re.compile(r"\S+[ \t]+(Q?0|-|\d+)[ \t]+\S+[ \t]+-?\d+(\.\d+)?\s*")


def _fits(source: Source) -> bool:
    if source.ending in (".csv", ".jsonl", ".json", ".parquet", ".arrow", ".html", ".md", ".pdf", ".rst"):
        return False
    if source.kind == "judgments" or source.ending == ".qrels" or "qrel" in source.words:
        return True
    if source.ending not in (".txt", ".tsv", "") or source.kind is not None:
        return False
    rows = first_rows(source, 5)
    return bool(rows) and all(_ROW.fullmatch(row) for row in rows)


@reader("qrels", "judgments (TREC, BEIR, MS MARCO)", fits=_fits, order=0)
def read_qrels_file(source: Source, options: Options, on_bad: OnBad) -> Iterator[Found]:
    """Yield the judgments of a file."""
    for row in judgments(source.path, negative=options.negative, on_bad=on_bad):
        place = Place(source.path, row.line)
        yield Judged(
            place, as_id(row.query), as_id(row.document), float(row.relevance), about=Asked(split=source.split)
        )
