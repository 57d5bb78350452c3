"""Setwise: which of these few is the best? Sorted by a heap with many children, or by bubbling sets.

With c + 1 documents a question, ``heapsort`` compares a parent with its c children at once, and a pass of
``bubblesort`` moves the best of each set of c + 1 to its front, from the bottom up, overlapping by one: pass i takes
ceil((n - i) / c) calls, i = 1..k.

Paper: Zhuang et al., A Setwise Approach for Effective and Highly Efficient Zero-shot Ranking with Large Language
Models, 2024.
"""

from collections.abc import Callable

import numpy as np

from lorank.errors import UsageError, unknown_name
from lorank.ranking.judges import Session
from lorank.ranking.strategies.heaps import heap_top
from lorank.ranking.strategies.registry import Standing, register_strategy


@register_strategy(
    "setwise",
    title="A Setwise Approach for Effective and Highly Efficient Zero-shot Ranking with Large Language Models",
    published=False,
)
def setwise(
    session: Session, top: int, generator: np.random.Generator, *, method: str = "heapsort", size: int = 4
) -> Standing:
    """Order by picking the best of sets of ``size`` documents.

    Args:
        session: The questions to the judge about one query's documents, with its cache and its budget.
        top: The number of documents, 1 or more, that must stand in their final order.
        generator: It is not used.
        method: One of ``heapsort`` and ``bubblesort``.
        size: The number of documents in a set, 2 or more.

    Raises:
        UsageError: If ``method`` is another name, or ``size`` is below 2.
    """
    if method not in METHODS:
        raise unknown_name("method of setwise:", method, METHODS)
    if size < 2:
        raise UsageError(f"size must be 2 or above, got {size}")
    return Standing(METHODS[method](session, top, size))


def heapsort(session: Session, top: int, size: int) -> list[int]:
    """Take the top from a heap with ``size`` - 1 children a node."""
    return heap_top(
        list(range(session.count)), top, size - 1, lambda family: session.bests([family])[0], lambda: session.spent
    )


def bubblesort(session: Session, top: int, size: int) -> list[int]:
    """Let the best of what is left bubble up, ``top`` times."""
    order = list(range(session.count))
    for settled in range(min(top, session.count - 1)):
        end = session.count
        while end - settled > 1 and not session.spent:
            start = max(settled, end - size)
            best = session.bests([order[start:end]])[0]
            order.remove(best)
            order.insert(start, best)
            end = start + 1
    return order


METHODS: dict[str, Callable[[Session, int, int], list[int]]] = {"heapsort": heapsort, "bubblesort": bubblesort}
"""The ways from picks to an order."""
