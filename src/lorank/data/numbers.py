"""Numbers and grades as files write them: strictly read, and what a grade below 0 is taken for.

A grade is any finite number: 0, 1, 2 as assessors give them, a teacher's score, a profit, a bid, a probability. TREC
writes -1 and -2 for documents that nobody judged, while a loss of money is a number like any other; only the reader
knows which of the two is meant:

    error   refuse the row, which is the default
    zero    not relevant
    skip    not judged: the row is left out
    keep    a number like any other
"""

from pathlib import Path
from typing import Literal, get_args

from lorank.errors import DataError, unknown_name

Negative = Literal["error", "zero", "skip", "keep"]

NEGATIVE: tuple[str, ...] = get_args(Negative)

SAY = (
    "say what it means: --negative zero, skip (not judged) or keep (a number like any other), "
    "or read with negative='zero', 'skip' or 'keep'"
)
"""What a message about a grade below 0 tells to do."""


def check_negative(negative: str) -> None:
    """Raise UsageError for a word that is none of ``NEGATIVE``."""
    if negative not in NEGATIVE:
        raise unknown_name("reading of grades below 0 (negative):", negative, NEGATIVE)


def as_whole(value: float) -> int | float:
    """Return a whole number as an int, anything else as a float.

    >>> as_whole(2.0), as_whole(0.5)
    (2, 0.5)
    """
    return int(value) if float(value).is_integer() else float(value)


def read_grade(path: str | Path, line: int, value: float, negative: str, what: str = "relevance") -> int | float | None:
    """Return a grade as ``negative`` says, None for a row to leave out.

    Args:
        path: The file that the grade comes from, which an error names.
        line: The line of the grade, counted from 1.
        value: The number that is written there, finite.
        negative: What a number below 0 is: ``error``, ``zero``, ``skip`` or ``keep``.
        what: The noun for the number in an error.

    Raises:
        DataError: If the number is below 0 and ``negative`` is ``error``.
    """
    if value < 0 and negative == "error":
        raise DataError(
            path,
            line,
            f"the {what} {as_whole(value)} is below 0",
            f"write 0 for what is not relevant, or {SAY}",
        )
    if value < 0 and negative == "skip":
        return None
    return 0 if value < 0 and negative == "zero" else as_whole(value)
