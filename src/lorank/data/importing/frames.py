"""Frames and data sets in memory, known by what they can do: pandas, polars, pyarrow, ``datasets``, lists."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lorank.data.bad_rows import collected
from lorank.data.collection import Collection
from lorank.data.importing.collect import Choices, gather_found
from lorank.data.importing.columns import check_roles
from lorank.data.importing.found import Found, Record
from lorank.data.importing.readers.datasets_folder import of_split
from lorank.data.importing.records import read_records
from lorank.data.importing.registry import Options, Source
from lorank.data.importing.summary import Summary
from lorank.data.letor import split_of_name
from lorank.data.numbers import Negative
from lorank.errors import OnBad, UsageError

PARTS = ("documents", "corpus", "queries", "judgments", "qrels", "rows")
"""Keys of a mapping that say what a frame holds; any other key is the name of a split."""
_KINDS = {"corpus": "documents", "qrels": "judgments"}


def is_in_memory(data: object) -> bool:
    """Return whether ``data`` is a frame, a data set, a list of records, or a mapping of such.

    >>> is_in_memory([{"query": "a", "document": "b"}]), is_in_memory("pydocs")
    (True, False)
    """
    if isinstance(data, str | Path):
        return False
    if isinstance(data, Mapping):
        return bool(data) and all(is_in_memory(part) for part in data.values())
    if isinstance(data, list | tuple):
        return all(isinstance(row, Mapping) for row in data)
    return any(hasattr(data, name) for name in ("to_dicts", "to_pylist", "iloc", "column_names"))


def records_in(data: Any) -> Iterator[tuple[int, Record]]:
    """Yield (row number from 1, record) of a frame, a data set or a list of records."""
    if hasattr(data, "collect") and hasattr(data, "to_dicts") is False:  # a lazy frame of polars
        data = data.collect()
    if hasattr(data, "to_dicts"):  # polars
        rows: Any = data.to_dicts()
    elif hasattr(data, "iloc"):  # pandas
        rows = data.to_dict("records")
    elif hasattr(data, "to_pylist"):  # pyarrow
        rows = data.to_pylist()
    else:  # datasets, lists
        rows = iter(data)
    for number, row in enumerate(rows, start=1):
        yield number, {str(key): _plain(value) for key, value in row.items()}


def _plain(value: Any) -> Any:
    """Return numpy's numbers and arrays as Python's, and what pandas calls missing as None."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return None if type(value).__name__ in ("NAType", "NaTType") else value


def _parts(data: Any) -> list[tuple[str, str | None, str | None, Any]]:
    """Return (name, kind, split, rows) of what is given."""
    if not isinstance(data, Mapping):
        return [("frame", None, None, data)]
    return [
        (str(name), _KINDS.get(str(name), str(name)), None, part)
        if str(name) in PARTS
        else (str(name), None, split_of_name(str(name)) or str(name), part)
        for name, part in data.items()
    ]


def read_in_memory(
    data: Any,
    name: str = "frame",
    *,
    columns: Mapping[str, str] | None = None,
    negative: Negative = "error",
    on_bad: OnBad | None = None,
) -> Collection:
    """Return the collection of a frame, a data set, a list of records, or a mapping of them by split or kind.

    Args:
        data: A frame of pandas, polars or pyarrow, a data set of ``datasets``, a list of records; or a mapping of these
            whose keys are splits (train, dev, test) or say what a part holds (documents, queries, judgments).
        name: The collection's name.
        columns: Columns by role, where their names are not known.
        negative: What a label below 0 is (:mod:`lorank.data.numbers`).
        on_bad: What is called with each bad row, which is left out.

    Raises:
        DataError: with one report of all bad rows where ``on_bad`` is None, and for columns that are not known.
        UsageError: for an object of another kind.
    """
    if not is_in_memory(data):
        raise UsageError(
            f"a {type(data).__name__} is no collection; give a path, a frame, a data set, a list of records"
        )
    check_roles(columns or {})
    options = Options(columns=dict(columns or {}), negative=negative)

    def found(report: OnBad) -> Iterator[tuple[Path, Found]]:
        for part, kind, split, rows in _parts(data):
            source = Source(Path(f"<{part}>"), part, kind=kind, split=split)
            for each in read_records(records_in(rows), source, options, report):
                yield source.path, of_split(each, split)

    with collected(on_bad) as report:
        return gather_found(found(report), name, Choices(options, splits="given"), Summary(), report).collection
