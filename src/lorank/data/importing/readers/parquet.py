"""Parquet files, through pyarrow (the extra ``lorank[parquet]``)."""

from collections.abc import Iterator

from lorank.data.importing.found import Found
from lorank.data.importing.records import read_records
from lorank.data.importing.registry import Options, Source, reader
from lorank.data.parquet import parquet_rows
from lorank.errors import OnBad


def _fits(source: Source) -> bool:
    return source.head.startswith(b"PAR1") or source.ending in (".parquet", ".pq")


@reader("parquet", "Parquet files", fits=_fits, order=0)
def read_parquet(source: Source, options: Options, on_bad: OnBad) -> Iterator[Found]:
    """Yield what the rows of a file say."""
    yield from read_records(parquet_rows(source.path, nulls=True), source, options, on_bad)
