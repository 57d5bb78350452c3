"""JSON lines, and JSON files that hold one array of objects."""

import json
from collections.abc import Iterator

from lorank.data.importing.found import Found, Record
from lorank.data.importing.records import read_records
from lorank.data.importing.registry import Options, Source, reader
from lorank.errors import DataError, OnBad, report_bad
from lorank.reading import json_lines, read_whole

EXPECTED = '{"query": ..., "positive": ..., "negative": ...}, {"_id": ..., "text": ...} or the like'


def _array(source: Source, on_bad: OnBad) -> Iterator[tuple[int, Record]]:
    """Yield (number from 1, object) of a file that holds one array."""
    remedy = "write one JSON object per line"
    try:
        rows = json.loads(read_whole(source.path))
    except (ValueError, RecursionError) as error:
        raise DataError(source.path, None, f"broken JSON ({str(error)[:100]})", remedy) from error
    for number, row in enumerate(rows, start=1):
        if isinstance(row, dict):
            yield number, row
        else:
            problem = f"a JSON {type(row).__name__} where an object was expected"
            report_bad(DataError(source.path, number, problem, remedy), row, on_bad)


@reader("jsonl", "JSON lines", endings=(".jsonl", ".ndjson", ".json"))
def read_json_lines(source: Source, options: Options, on_bad: OnBad) -> Iterator[Found]:
    """Yield what the objects of a file say."""
    whole = source.head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")
    records = _array(source, on_bad) if whole else json_lines(source.path, EXPECTED, on_bad)
    yield from read_records(records, source, options, on_bad)
