"""Top-down partitioning: a pivot from the first window sorts all others into better and worse.

The first w documents are ranked; the one at place p is the pivot. All further documents meet the pivot in windows of
w - 1, in one round. If none is better than the pivot the first window was right, else those above it (the p - 1 of
the first window included) are ranked in the same way.

Calls of the first level: 1 + ceil((n - w) / (w - 1)). With a perfect judge the first k places are exact.

Paper: Parry, MacAvaney and Ganguly, Top-Down Partitioning for Efficient List-Wise Ranking, 2024.

*Deviations*: the paper stops partitioning when a budget of candidates is full; here all candidates go on (``cap``
sets such a limit, and the best of the first windows go first). Where p < k, the worse ones are partitioned next.
"""

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.judges import Session
from lorank.ranking.strategies.registry import Standing, register_strategy


@register_strategy("top-down", title="Top-Down Partitioning for Efficient List-Wise Ranking", published=False)
def top_down(
    session: Session,
    top: int,
    generator: np.random.Generator,
    *,
    size: int = 20,
    pivot: int | None = None,
    cap: int | None = None,
) -> Standing:
    """Order by windows of ``size`` documents around a pivot.

    Args:
        session: The questions to the judge about one query's documents, with its cache and its budget.
        top: The number of documents, 1 or more, that must stand in their final order.
        generator: It is not used.
        size: The number of documents in a window, 3 or more.
        pivot: The pivot's place in the first window, from 2 to ``size`` - 1; None is ``top``, moved into that range.
        cap: The most candidates that go on, 1 or more; None sets no bound.

    Raises:
        UsageError: If a number is out of its range.
    """
    if size < 3 or (cap is not None and cap < 1):
        raise UsageError(f"size must be 3 or above and cap 1 or above, got {size} and {cap}")
    place = min(max(top, 2), size - 1) if pivot is None else pivot
    if not 2 <= place < size:
        raise UsageError(f"pivot must be from 2 to size - 1 = {size - 1}, got {pivot}")
    done: list[int] = []
    pending = [list(range(session.count))]
    while pending and len(done) < top and not session.spent:
        part = pending.pop()
        if len(part) <= size:
            done += session.orders([part])[0]
            continue
        better, settled, worse = _partition(session, part, size, place, cap)
        done += settled
        pending += [split for split in (worse, *better) if split]
    return Standing(done + [d for part in reversed(pending) for d in part])


def _partition(
    session: Session, items: list[int], size: int, place: int, cap: int | None
) -> tuple[list[list[int]], list[int], list[int]]:
    """Return what is still to be ranked (the pivot, then above it the better ones), what is settled, and the rest."""
    first = session.orders([items[:size]])[0]
    pivot, rest = first[place - 1], items[size:]
    windows = [[pivot, *rest[start : start + size - 1]] for start in range(0, len(rest), size - 1)]
    orders = session.orders(windows)
    better = [d for order in orders for d in order[: order.index(pivot)]]
    kept = better[:cap]
    worse = better[len(kept) :] + first[place:] + [d for order in orders for d in order[order.index(pivot) + 1 :]]
    if not kept:
        return [], first[:place], worse
    return [[pivot], first[: place - 1] + kept], [], worse
