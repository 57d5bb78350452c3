"""Runs and judgments to and from data frames, with the columns of ir_measures or of PyTerrier.

| | query | document | score | relevance |
|---|---|---|---|---|
| ``ir_measures`` | ``query_id`` | ``doc_id`` | ``score`` | ``relevance`` |
| ``pyterrier`` | ``qid`` | ``docno`` | ``score``, and ``rank`` from 0 | ``label`` |

Reading takes any frame with ``columns`` and ``frame[column]`` (pandas, polars); writing makes pandas frames.
"""

import importlib
import math
from typing import Any, Literal, NamedTuple

from lorank.data.trec import ordered
from lorank.errors import UsageError
from lorank.ranking.types import Qrels, Run

Style = Literal["ir_measures", "pyterrier"]


class _Columns(NamedTuple):
    query: str
    document: str
    relevance: str


STYLES = {"ir_measures": _Columns("query_id", "doc_id", "relevance"), "pyterrier": _Columns("qid", "docno", "label")}


def _triples(frame: Any, value: str | None) -> list[tuple[str, str, Any]]:
    """Return (query, document, value) rows; ``value`` None means the style's relevance column."""
    there = list(frame.columns)
    for columns in STYLES.values():
        wanted = (columns.query, columns.document, value or columns.relevance)
        if all(column in there for column in wanted):
            queries, documents, values = (list(frame[column]) for column in wanted)
            return list(zip(map(str, queries), map(str, documents), values))
    known = " or ".join(f"{c.query}, {c.document}, {value or c.relevance}" for c in STYLES.values())
    raise UsageError(f"the frame has the columns {', '.join(map(str, there))}; it needs {known}")


def _nested(triples: list[tuple[str, str, Any]]) -> dict[str, dict[str, Any]]:
    nested: dict[str, dict[str, Any]] = {}
    for query, document, value in triples:
        row = nested.setdefault(query, {})
        if document in row:
            raise UsageError(f"the frame has document {document!r} twice for query {query!r}; keep one row")
        row[document] = value
    return nested


def run_from_frame(frame: Any) -> Run:
    """Return the run in a frame; raise UsageError for other columns, duplicates and scores that are not finite."""
    run = _nested([(query, document, float(score)) for query, document, score in _triples(frame, "score")])
    for query, row in run.items():
        for document, score in row.items():
            if not math.isfinite(score):
                raise UsageError(f"query {query!r}, document {document!r}: the score {score} is not finite")
    return run


def qrels_from_frame(frame: Any) -> Qrels:
    """Return the judgments in a frame; raise UsageError for a relevance that is no whole number from 0 up."""
    qrels = _nested(_triples(frame, None))
    for query, row in qrels.items():
        for document, relevance in row.items():
            if not (relevance >= 0 and float(relevance).is_integer()):
                raise UsageError(
                    f"query {query!r}, document {document!r}: the relevance {relevance} is not a whole number from 0 up"
                )
            row[document] = int(relevance)
    return qrels


def _pandas() -> Any:
    try:
        return importlib.import_module("pandas")
    except ImportError as error:
        raise UsageError("data frames need pandas: pip install pandas") from error


def run_to_frame(run: Run, style: Style = "ir_measures", queries: dict[str, str] | None = None) -> Any:
    """Return the run as a pandas frame, best first; PyTerrier's has ``rank`` from 0, and ``query`` where given."""
    columns = STYLES[style]
    rows = []
    for query, row in run.items():
        for rank, document in enumerate(ordered(row)):
            record = {columns.query: query, columns.document: document, "score": row[document]}
            if style == "pyterrier":
                record |= {"rank": rank} | ({"query": queries[query]} if queries is not None else {})
            rows.append(record)
    return _pandas().DataFrame(rows)


def qrels_to_frame(qrels: Qrels, style: Style = "ir_measures") -> Any:
    """Return the judgments as a pandas frame."""
    columns = STYLES[style]
    return _pandas().DataFrame(
        [
            {columns.query: query, columns.document: document, columns.relevance: relevance}
            for query, row in qrels.items()
            for document, relevance in row.items()
        ]
    )
