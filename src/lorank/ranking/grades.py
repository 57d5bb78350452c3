"""Grades as judgments hold them, made fit for trec_eval's code, which takes small whole numbers only.

A grade is a finite number. Below 0 it says that the document was not judged (TREC writes -1 and -2), as in trec_eval.
A binary measure asks whether a grade reaches a whole threshold rel, and

    g >= rel   exactly when   floor(g) >= rel   exactly when   min(floor(g), cap) >= rel      for cap >= rel,

so real-valued and huge grades become small whole ones without a change of any binary measure. nDCG needs the grades as
they are (:mod:`lorank.ranking.metrics.ndcg`).
"""

import math
import numbers
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from lorank.errors import UsageError

Grades = dict[str, dict[str, float]]


def as_grade(value: Any) -> float | None:
    """Return ``value`` as a finite int or float (of Python, numpy or a tensor of one element), None for others.

    >>> as_grade(2), as_grade(0.5), as_grade(float("nan")), as_grade("2")
    (2, 0.5, None, None)
    """
    if type(value) is float:
        return value if math.isfinite(value) else None
    if isinstance(value, str | bytes):
        return None
    if not isinstance(value, numbers.Real | Decimal):
        one = getattr(value, "item", None)
        if one is None or math.prod(getattr(value, "shape", (0,))) != 1:
            return None
        value = one()
    try:
        number = float(value)
    except (OverflowError, TypeError, ValueError):
        return None
    if not math.isfinite(number):
        return None
    return int(value) if isinstance(value, numbers.Integral) else number


def read_grades(qrels: Mapping[Any, Mapping[Any, Any]]) -> Grades:
    """Return the judgments with grades of Python's; raise UsageError naming the first that is no finite number.

    >>> read_grades({"q": {"a": 1, "b": float("nan")}})
    Traceback (most recent call last):
    lorank.errors.UsageError: query 'q', document 'b': the relevance nan is not a finite number
    """
    graded: Grades = {}
    for query, judged in qrels.items():
        row = {document: as_grade(value) for document, value in judged.items()}
        for document, grade in row.items():
            if grade is None:
                shown = repr(judged[document])[:80]
                raise UsageError(
                    f"query {query!r}, document {document!r}: the relevance {shown} is not a finite number"
                )
        graded[query] = row  # type: ignore[assignment]
    return graded


def drop_unjudged(grades: Grades) -> Grades:
    """Return the grades from 0 up: a grade below 0 says that nobody judged the document."""
    return {query: {d: grade for d, grade in row.items() if grade >= 0} for query, row in grades.items()}


def levels(row: Mapping[str, float], cap: int, *, pooled: bool = False) -> dict[str, int]:
    """Return one query's grades as whole numbers from 0 to ``cap`` that every threshold up to it reads alike.

    With ``pooled`` a grade of -1 stays: infAP takes it for a document of the pool that was not judged.

    >>> levels({"a": 0.7, "b": 2.5, "c": 10**30, "d": -1}, cap=3)
    {'a': 0, 'b': 2, 'c': 3}
    """
    small = {document: min(math.floor(grade), cap) for document, grade in row.items() if grade >= 0}
    return small | {document: -1 for document, grade in row.items() if grade == -1} if pooled else small
