"""A window slides over the list from its end to its front, and what it shows is put in order.

A pass over n documents with windows of w and steps of s takes ceil((n - w) / s) + 1 calls, one after the other, and
with a perfect judge settles the first w - s places.
"""

from lorank.errors import UsageError
from lorank.ranking.judges import Session


def window_starts(count: int, size: int, step: int) -> list[int]:
    """Return where windows start, last first.

    >>> window_starts(100, 20, 10)
    [80, 70, 60, 50, 40, 30, 20, 10, 0]
    """
    last = max(count - size, 0)
    return [max(last - i * step, 0) for i in range(-(-last // step) + 1)]


def slide(session: Session, order: list[int], size: int, step: int, passes: int, kind: str) -> list[int]:
    """Return ``order`` after ``passes`` passes of windows, each ordered by a question of ``kind``.

    Args:
        session: The questions to the judge about one query's documents, with its cache and its budget.
        order: The positions of the documents, the best guess first.
        size: The number of documents in a window, 2 or more.
        step: The number of places by which a window moves up, from 1 to ``size`` - 1.
        passes: The number of passes over the list, 1 or more.
        kind: The kind of question that orders a window.

    Raises:
        UsageError: If a number is out of its range.
    """
    if not 1 <= step < size or passes < 1:
        raise UsageError(
            f"windows need 1 <= step < size and one pass or more, got size {size}, step {step}, passes {passes}"
        )
    order = list(order)
    for _ in range(passes):
        for start in window_starts(len(order), size, step):
            shown = order[start : start + size]
            order[start : start + size] = session.orders([shown], kind)[0]
    return order
