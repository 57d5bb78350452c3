"""Runs and judgments as people hold them in memory, read as nested dictionaries with ids as texts.

Taken are nested mappings (ids may be whole numbers, grades and scores numpy's), frames with the columns of ir_measures
(``query_id``, ``doc_id``, ``score`` or ``relevance``) or of PyTerrier (``qid``, ``docno``, ``score`` or ``label``), of
pandas, polars or anything else with ``columns`` and ``frame[column]``, and rows (query, document, value), such as
ir_measures' named tuples.
"""

import math
import numbers
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from lorank.errors import UsageError
from lorank.ranking.grades import as_grade
from lorank.ranking.types import Qrels, Run

Kind = Literal["run", "qrels"]


class Columns(NamedTuple):
    """The names of a frame's columns."""

    query: str
    document: str
    relevance: str


STYLES = {"ir_measures": Columns("query_id", "doc_id", "relevance"), "pyterrier": Columns("qid", "docno", "label")}

_SHAPES = {
    "run": "{query: {document: score}}, a frame with the columns query_id, doc_id, score, or rows of these three",
    "qrels": "{query: {document: relevance}}, a frame with the columns query_id, doc_id, relevance, or rows of these",
}


def read_run_in_memory(given: Any, what: str = "the run") -> Run:
    """Return a run in any of the shapes above; ``what`` names it in errors.

    Raises UsageError for another shape, an id that is neither a text nor a whole number, a document twice for a query,
    and a score that is NaN or no number.

    >>> read_run_in_memory({1: {20: 0.5}})
    {'1': {'20': 0.5}}
    """
    return _nest(given, "run", what)


def read_qrels_in_memory(given: Any, what: str = "the judgments") -> Qrels:
    """Return judgments in any of the shapes above; raises as ``read_run_in_memory`` does.

    >>> import numpy as np
    >>> read_qrels_in_memory([(1, "d", np.int64(2)), ("2", "d", 0.5)])
    {'1': {'d': 2}, '2': {'d': 0.5}}
    """
    return _nest(given, "qrels", what)


def is_frame(given: Any) -> bool:
    """Return whether ``given`` is a data frame, by duck typing."""
    return hasattr(given, "columns") and hasattr(given, "__getitem__") and not isinstance(given, Mapping)


def frame_rows(frame: Any, value: str | None, what: str) -> list[tuple[Any, Any, Any]]:
    """Return (query, document, value) rows of a frame; ``value`` None means the style's relevance column."""
    there = list(frame.columns)
    for columns in STYLES.values():
        required = (columns.query, columns.document, value or columns.relevance)
        if all(column in there for column in required):
            queries, documents, values = (list(frame[column]) for column in required)
            return list(zip(queries, documents, values, strict=True))
    known = " or ".join(f"{c.query}, {c.document}, {value or c.relevance}" for c in STYLES.values())
    raise UsageError(f"the frame of {what} has the columns {', '.join(map(str, there))}; it needs {known}")


def _nest(given: Any, kind: Kind, what: str) -> dict[str, dict[str, Any]]:
    if is_frame(given):
        return _from_rows(frame_rows(given, "score" if kind == "run" else None, what), kind, what)
    if isinstance(given, Mapping):
        return _from_mapping(given, kind, what)
    if isinstance(given, Iterable) and not isinstance(given, str | bytes):
        rows = [tuple(row)[:3] if isinstance(row, tuple | list) else row for row in given]
        if all(isinstance(row, tuple) and len(row) == 3 for row in rows):
            return _from_rows(rows, kind, what)
    raise UsageError(f"{what}: got a {type(given).__name__}; give {_SHAPES[kind]}")


def _from_mapping(given: Mapping[Any, Any], kind: Kind, what: str) -> dict[str, dict[str, Any]]:
    nested: dict[str, dict[str, Any]] = {}
    for query, row in given.items():
        if not isinstance(row, Mapping):
            raise UsageError(f"{what}: query {query!r} has a {type(row).__name__}; give {_SHAPES[kind]}")
        name = _id(query, "query", what)
        if name in nested:
            raise UsageError(f"{what}: query {name!r} is there twice, as a text and as a number; keep one")
        read = {_id(document, "document", what): value for document, value in row.items()}
        if len(read) < len(row):
            raise UsageError(f"{what}: query {name!r} has a document twice, as a text and as a number; keep one")
        nested[name] = {d: _value(value, kind, name, d, what) for d, value in read.items()}
    return nested


def _from_rows(rows: Iterable[tuple[Any, Any, Any]], kind: Kind, what: str) -> dict[str, dict[str, Any]]:
    nested: dict[str, dict[str, Any]] = {}
    for query, document, value in rows:
        name, inner = _id(query, "query", what), _id(document, "document", what)
        row = nested.setdefault(name, {})
        if inner in row:
            raise UsageError(f"{what} has document {inner!r} twice for query {name!r}; keep one row")
        row[inner] = _value(value, kind, name, inner, what)
    return nested


def _id(value: Any, kind: str, what: str) -> str:
    if isinstance(value, str):
        return str(value)
    if not isinstance(value, numbers.Integral) and math.prod(getattr(value, "shape", (2,))) == 1:
        value = value.item()
    whole = isinstance(value, float) and value.is_integer()
    if (isinstance(value, numbers.Integral) and not isinstance(value, bool)) or whole:
        return str(int(value))
    if isinstance(value, str):
        return value
    raise UsageError(f"{what}: the {kind} id {value!r} is neither a text nor a whole number")


def _value(value: Any, kind: Kind, query: str, document: str, what: str) -> Any:
    read = as_grade(value)
    if kind == "run" and read is None and isinstance(value, numbers.Real) and math.isinf(value):
        return float(value)
    if read is None:
        name = "score" if kind == "run" else "relevance"
        missing = isinstance(value, numbers.Real) and math.isnan(value)
        problem = "nan is not finite" if missing else f"{repr(value)[:80]} is not a finite number"
        raise UsageError(f"{what}: query {query!r}, document {document!r}: the {name} {problem}")
    return float(read) if kind == "run" else read
