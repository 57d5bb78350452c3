"""Runs and judgments to and from data frames, with the columns of ir_measures or of PyTerrier.

| | query | document | score | relevance |
|---|---|---|---|---|
| ``ir_measures`` | ``query_id`` | ``doc_id`` | ``score`` | ``relevance`` |
| ``pyterrier`` | ``qid`` | ``docno`` | ``score``, and ``rank`` from 0 | ``label`` |

Reading takes any frame with ``columns`` and ``frame[column]`` (pandas, polars); writing makes pandas frames.
"""

import importlib
import math
from typing import Any, Literal

from lorank.data.numbers import Negative, as_whole, check_negative
from lorank.errors import UsageError
from lorank.ranking.in_memory import STYLES, is_frame, read_qrels_in_memory, read_run_in_memory
from lorank.ranking.types import Qrels, Run, order_documents

Style = Literal["ir_measures", "pyterrier"]


def run_from_frame(frame: Any) -> Run:
    """Return the run in a frame; raise UsageError for other columns, duplicates and scores that are not finite."""
    run = read_run_in_memory(_frame(frame), "the run")
    for query, row in run.items():
        for document, score in row.items():
            if not math.isfinite(score):
                raise UsageError(f"query {query!r}, document {document!r}: the score {score} is not finite")
    return run


def qrels_from_frame(frame: Any, *, negative: Negative = "error") -> Qrels:
    """Return the judgments in a frame; ``negative`` says what a grade below 0 is (:mod:`lorank.data.numbers`).

    Raises UsageError for other columns, duplicates and a relevance that is no finite number.
    """
    check_negative(negative)
    qrels: Qrels = {}
    for query, row in read_qrels_in_memory(_frame(frame), "the judgments").items():
        qrels[query] = {}
        for document, grade in row.items():
            if grade < 0 and negative == "error":
                raise UsageError(
                    f"query {query!r}, document {document!r}: the relevance {as_whole(grade)} is below 0; "
                    "say what it means with negative='zero', 'skip' or 'keep'"
                )
            if grade >= 0 or negative in ("zero", "keep"):
                qrels[query][document] = 0 if grade < 0 and negative == "zero" else as_whole(grade)
    return qrels


def _frame(frame: Any) -> Any:
    if not is_frame(frame):
        raise UsageError(f"a {type(frame).__name__} is no data frame; give one with columns and frame[column]")
    return frame


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
        for rank, document in enumerate(order_documents(row)):
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
