"""Numbers and grades as files write them: strictly read, and what a grade below 0 is taken for.

A grade is any finite number: 0, 1, 2 as assessors give them, a teacher's score, a profit, a bid, a probability. TREC
writes -1 and -2 for documents that nobody judged, while a loss of money is a number like any other; only the reader
knows which of the two is meant:

    error   refuse the row, which is the default
    zero    not relevant
    skip    not judged: the row is left out
    keep    a number like any other
"""

import math
import re
from pathlib import Path
from typing import Literal, get_args

from lorank.errors import DataError, unknown_name

Negative = Literal["error", "zero", "skip", "keep"]

NEGATIVE: tuple[str, ...] = get_args(Negative)

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def check_negative(negative: str) -> None:
    """Raise UsageError for a word that is none of ``NEGATIVE``."""
    if negative not in NEGATIVE:
        raise unknown_name("reading of grades below 0 (negative):", negative, NEGATIVE)


def parse_number(text: str) -> float | None:
    """Return the finite number that ``text`` writes in plain decimal notation, None where it writes none.

    What Python takes beyond that is refused: ``1_0``, digits of other scripts, ``nan``, ``inf``, and numbers too large
    for a double.

    >>> [parse_number(text) for text in ("-1.5e3", " 2 ", "1_0", "nan", "9" * 400)]
    [-1500.0, 2.0, None, None, None]
    """
    text = text.strip()
    if not _NUMBER.fullmatch(text):
        return None
    number = float(text)
    return number if math.isfinite(number) else None


def short(text: str) -> str:
    """Return ``text`` as messages show it: quoted, and cut where it is long.

    >>> short("9" * 400)
    "'999999999999999999999999999999...' (400 characters)"
    """
    return repr(text) if len(text) <= 60 else f"'{text[:30]}...' ({len(text)} characters)"


def whole(value: float) -> int | float:
    """Return a whole number as an int, anything else as a float.

    >>> whole(2.0), whole(0.5)
    (2, 0.5)
    """
    return int(value) if float(value).is_integer() else float(value)


def read_grade(path: str | Path, line: int, value: float, negative: str) -> int | float | None:
    """Return a grade as ``negative`` wants it, None for a row to leave out; raise DataError where it is refused."""
    if value < 0 and negative == "error":
        raise DataError(
            path,
            line,
            f"the relevance {whole(value)} is below 0",
            "say what it means with --negative (in Python negative=): zero for not relevant, skip for not judged, "
            "keep for a number like any other",
        )
    if value < 0 and negative == "skip":
        return None
    return 0 if value < 0 and negative == "zero" else whole(value)
