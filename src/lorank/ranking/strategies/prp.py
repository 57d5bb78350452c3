"""Pairwise ranking prompting: which of these two is better?

Each pair is asked in both orders; answers that contradict each other are a tie (0.5). Four ways to an order:

- ``all-pairs``: score_i = sum_j P(i beats j); n(n - 1) calls in one round. The order of the input has no influence.
- ``heapsort``: the top k from a binary heap; O(n + k log n) comparisons.
- ``sliding``: k bubble passes from the bottom, pass i of n - i comparisons (i = 1..k), at most k(n - 1) in all.
- ``quicksort``: all documents against one pivot at a time, in one round, and only the parts that hold the top k.

A comparison is two calls, or one with ``both_orders=False``.

Paper: Qin et al., Large Language Models are Effective Text Rankers with Pairwise Ranking Prompting, 2024.

*Deviations*: the paper's passes compare all n - 1 neighbours; pass i here leaves out the i - 1 places that are
settled. Quicksort is Wisznia et al.'s (llm-sorting-cost).
"""

from collections.abc import Callable

import numpy as np

from lorank.errors import unknown_name
from lorank.ranking.judges import Session
from lorank.ranking.strategies.heaps import heap_top
from lorank.ranking.strategies.registry import Standing, by_score, check_round, register_strategy


@register_strategy("prp", title="Large Language Models are Effective Text Rankers with Pairwise Ranking Prompting")
def prp(
    session: Session, top: int, generator: np.random.Generator, *, method: str = "heapsort", both_orders: bool = True
) -> Standing:
    """Order by pairwise comparisons.

    Args:
        session: The questions to the judge about one query's documents, with its cache and its budget.
        top: The number of documents, 1 or more, that must stand in their final order.
        generator: The source of every random draw.
        method: One of ``all-pairs``, ``heapsort``, ``sliding`` and ``quicksort``.
        both_orders: True asks about each pair twice, once in either order.

    Raises:
        UsageError: If ``method`` is another name.
    """
    if method not in METHODS:
        raise unknown_name("method of prp:", method, METHODS)
    return METHODS[method](session, top, generator, both_orders)


def all_pairs(session: Session, top: int, generator: np.random.Generator, both_orders: bool) -> Standing:
    """Count the wins of every document over every other; ties are half a win for each.

    Args:
        session: The questions to the judge about one query's documents, with its cache and its budget.
        top: It is not used; the whole list is ordered.
        generator: It is not used.
        both_orders: True asks about each pair twice, once in either order.
    """
    check_round(session.count * (session.count - 1) // (1 if both_orders else 2), "prp with method all-pairs")
    pairs = [(a, b) for a in range(session.count) for b in range(a + 1, session.count)]
    wins = np.zeros(session.count)
    for (a, b), outcome in zip(pairs, session.duels(pairs, both_orders)):
        wins[a] += outcome
        wins[b] += 1 - outcome
    return Standing(by_score(wins.tolist()), wins.tolist())


def heapsort(session: Session, top: int, generator: np.random.Generator, both_orders: bool) -> Standing:
    """Take the top from a binary heap: children are compared, and the better one with the parent.

    Args:
        session: The questions to the judge about one query's documents, with its cache and its budget.
        top: The number of documents, 1 or more, that must stand in their final order.
        generator: It is not used.
        both_orders: True asks about each pair twice, once in either order.
    """

    def best_of(family: list[int]) -> int:
        parent, child = family[0], family[1]
        if len(family) == 3 and session.duels([(family[2], child)], both_orders)[0] > 0.5:
            child = family[2]
        return child if session.duels([(child, parent)], both_orders)[0] > 0.5 else parent

    return Standing(heap_top(list(range(session.count)), top, 2, best_of, lambda: session.spent))


def sliding(session: Session, top: int, generator: np.random.Generator, both_orders: bool) -> Standing:
    """Let the best of what is left bubble up, ``top`` times.

    Args:
        session: The questions to the judge about one query's documents, with its cache and its budget.
        top: The number of documents, 1 or more, that must stand in their final order.
        generator: It is not used.
        both_orders: True asks about each pair twice, once in either order.
    """
    order = list(range(session.count))
    for settled in range(min(top, session.count - 1)):
        for place in range(session.count - 1, settled, -1):
            if session.duels([(order[place - 1], order[place])], both_orders)[0] < 0.5:
                order[place - 1], order[place] = order[place], order[place - 1]
        if session.spent:
            break
    return Standing(order)


def quicksort(session: Session, top: int, generator: np.random.Generator, both_orders: bool) -> Standing:
    """Split by a random pivot, all comparisons of a split in one round; parts beyond the top stay as they came.

    Args:
        session: The questions to the judge about one query's documents, with its cache and its budget.
        top: The number of documents, 1 or more, that must stand in their final order.
        generator: The source of the pivots.
        both_orders: True asks about each pair twice, once in either order.
    """
    done: list[int] = []
    pending = [(list(range(session.count)), False)]
    while pending and len(done) < top and not session.spent:
        part, settled = pending.pop()
        if settled or len(part) == 1:
            done += part
            continue
        pivot = part[int(generator.integers(len(part)))]
        others = [d for d in part if d != pivot]
        outcome = dict(zip(others, session.duels([(d, pivot) for d in others], both_orders)))
        outcome[pivot] = 0.5
        splits = (
            [d for d in part if outcome[d] < 0.5],
            [d for d in part if outcome[d] == 0.5],
            [d for d in part if outcome[d] > 0.5],
        )
        pending += [(split, tied) for split, tied in zip(splits, (False, True, False)) if split]
    return Standing(done + [d for part, _ in reversed(pending) for d in part])


METHODS: dict[str, Callable[[Session, int, np.random.Generator, bool], Standing]] = {
    "all-pairs": all_pairs,
    "heapsort": heapsort,
    "sliding": sliding,
    "quicksort": quicksort,
}
"""The ways from comparisons to an order."""
