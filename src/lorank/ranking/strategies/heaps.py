"""Heap selection of the best few, for any way of finding the best of a parent and its children."""

from collections.abc import Callable

BestOf = Callable[[list[int]], int]
"""Names the best of a parent (first) and its children; the parent where it cannot tell."""


def heap_top(items: list[int], top: int, arity: int, best_of: BestOf, spent: Callable[[], bool]) -> list[int]:
    """Return ``items`` with the best ``top`` first, in order, and the others as they came.

    A heap with ``arity`` children per node is built from the bottom, and its root taken ``top`` times; the root of
    the last time needs no repair. Once ``spent()`` is True what was taken so far goes first.

    Args:
        items: The items in the order given.
        top: The number of items that are taken, 0 or more.
        arity: The number of children of a node, 1 or more.
        best_of: It returns the best of a parent and its children.
        spent: It returns True when no more may be asked.

    >>> heap_top([3, 1, 4, 0, 5], 2, 2, max, lambda: False)
    [5, 4, 3, 1, 0]
    """
    heap = list(items)
    for node in reversed(range(_parent(len(heap) - 1, arity) + 1 if len(heap) > 1 else 0)):
        _sift(heap, node, arity, best_of)
    taken: list[int] = []
    while heap and len(taken) < top and not spent():
        taken.append(heap[0])
        last = heap.pop()
        if heap and len(taken) < top:
            heap[0] = last
            _sift(heap, 0, arity, best_of)
    chosen = set(taken)
    return taken + [item for item in items if item not in chosen]


def _parent(node: int, arity: int) -> int:
    return (node - 1) // arity


def _sift(heap: list[int], node: int, arity: int, best_of: BestOf) -> None:
    while True:
        children = range(node * arity + 1, min(node * arity + 1 + arity, len(heap)))
        if not children:
            return
        best = best_of([heap[node], *(heap[child] for child in children)])
        if best == heap[node]:
            return
        place = next(child for child in children if heap[child] == best)
        heap[node], heap[place] = heap[place], heap[node]
        node = place
