"""Rows of Parquet files, in and out, through pyarrow (the extra ``lorank[parquet]``)."""

import importlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from lorank.data.files import json_lines, write_json_lines, writing_bytes
from lorank.errors import DataError, OnBad, UsageError
from lorank.reading import is_readable, local_file

_ROWS_A_BATCH = 8192


def load_pyarrow(module: str) -> Any:
    """Return a module of pyarrow; raise UsageError naming the extra where it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError("Parquet and Arrow files need pyarrow: pip install 'lorank[parquet]'") from error


def is_parquet(path: str | Path) -> bool:
    """Return whether the file's name says Parquet, or for a pipe what comes out of it."""
    if Path(path).suffix in (".parquet", ".pq"):
        return True
    if Path(path).is_file() or not is_readable(path):
        return False
    with local_file(path).open("rb") as file:
        return file.read(4) == b"PAR1"


def parquet_rows(path: str | Path, *, nulls: bool = False) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (row number from 1, columns that are not null, or all with ``nulls``) of a Parquet file, streamed."""
    parquet, arrow = load_pyarrow("pyarrow.parquet"), load_pyarrow("pyarrow")
    number = 0
    try:
        with parquet.ParquetFile(local_file(path)) as file:
            for batch in file.iter_batches(_ROWS_A_BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row if nulls else {key: value for key, value in row.items() if value is not None}
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(path, None, f"not a readable Parquet file ({error})", "write it again") from error


def write_parquet(rows: Iterable[dict[str, Any]], path: str | Path) -> None:
    """Write rows of equal keys as Parquet, all or nothing."""
    parquet, arrow = load_pyarrow("pyarrow.parquet"), load_pyarrow("pyarrow")
    rows = iter(rows)
    first = list(islice(rows, _ROWS_A_BATCH))
    if not first:
        raise UsageError(f"{path}: no rows to write")
    table = arrow.Table.from_pylist(first)
    with writing_bytes(path) as file, parquet.ParquetWriter(file, table.schema) as writer:
        writer.write_table(table)
        while batch := list(islice(rows, _ROWS_A_BATCH)):
            writer.write_table(arrow.Table.from_pylist(batch, schema=table.schema))


def read_records(path: str | Path, expected: str, on_bad: OnBad | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line or row number, fields that are not null) of a JSON Lines or Parquet file, recognised by its name."""
    if is_parquet(path):
        yield from parquet_rows(path)
        return
    for line, row in json_lines(path, expected, on_bad):
        yield line, {key: value for key, value in row.items() if value is not None}


def write_records(rows: Iterable[dict[str, Any]], path: str | Path) -> None:
    """Write rows as JSON Lines (gzip with ``.gz``) or Parquet, recognised by the name, all or nothing."""
    (write_parquet if is_parquet(path) else write_json_lines)(rows, path)
