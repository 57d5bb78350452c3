"""Arrow files and streams, Feather too, through pyarrow (the extra ``lorank[parquet]``)."""

from collections.abc import Iterator
from pathlib import Path

from lorank.data.importing.found import Found, Record
from lorank.data.importing.records import read_records
from lorank.data.importing.registry import Options, Source, reader
from lorank.data.parquet import load_pyarrow
from lorank.errors import DataError, OnBad


def arrow_rows(path: Path) -> Iterator[tuple[int, Record]]:
    """Yield (row number from 1, columns) of an Arrow file or stream; raise DataError for what is neither."""
    arrow, ipc = load_pyarrow("pyarrow"), load_pyarrow("pyarrow.ipc")
    number = 0
    try:
        with arrow.memory_map(str(path)) as file:
            whole = path.open("rb").read(6) == b"ARROW1"
            table = ipc.open_file(file) if whole else ipc.open_stream(file)
            batches = (table.get_batch(i) for i in range(table.num_record_batches)) if whole else iter(table)
            for batch in batches:
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(path, None, f"not a readable Arrow file ({str(error)[:100]})", "write it again") from error


def _fits(source: Source) -> bool:
    return source.head.startswith((b"ARROW1", b"\xff" * 4)) or source.ending in (".arrow", ".feather", ".ipc")


@reader("arrow", "Arrow files", fits=_fits, order=0)
def read_arrow(source: Source, options: Options, on_bad: OnBad) -> Iterator[Found]:
    """Yield what the rows of a file say."""
    yield from read_records(arrow_rows(source.path), source, options, on_bad)
