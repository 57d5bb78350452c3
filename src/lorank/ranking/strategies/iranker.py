"""IRanker: at each step the judge removes the worst candidate of the pool, until one is left.

The order is the reverse of the elimination; n - 1 calls, one after the other, on pools of n, n - 1, ..., 2. A pool of
more than ``size`` documents is shown in parts of ``size``: the worst of each part is found once, and the worst of these
is removed; only the part that lost it, and the choice between the parts, are asked again.

Paper: Feng et al., IRanker: Towards Ranking Foundation Model, 2025.

*Deviations*: the paper's pools fit into one prompt; parts are for longer lists, and for judges that answer by one of
the 26 letters. Where the judge is consistent the order is the same.
"""

from collections.abc import Sequence

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.judges import Session
from lorank.ranking.strategies.registry import Standing, register_strategy


@register_strategy("iranker", title="IRanker: Towards Ranking Foundation Model")
def iranker(session: Session, top: int, generator: np.random.Generator, *, size: int | None = None) -> Standing:
    """Order by repeated exclusion of the worst.

    Args:
        session: The questions to the judge about one query's documents, with its cache and its budget.
        top: The number of documents, 1 or more, that must stand in their final order.
        generator: It is not used.
        size: The most documents that a question shows, 2 or more; None shows as many as the judge can answer for.
    """
    if size is not None and size < 2:
        raise UsageError(f"size must be 2 or above, got {size}")
    size = size or session.judge.most_shown("exclude") or max(2, session.count)
    pool = list(range(session.count))
    removed: list[int] = []
    known: dict[tuple[int, ...], int] = {}
    while len(pool) > 1 and not session.spent:
        parts = _parts(session.count, size, set(removed))
        worst = _worst(session, parts, size, known)
        pool.remove(worst)
        removed.append(worst)
    return Standing(pool + removed[::-1])


def _parts(count: int, size: int, gone: set[int]) -> list[tuple[int, ...]]:
    """Return what is left of each part of ``size`` documents, in the order that they came."""
    spans = [range(start, min(start + size, count)) for start in range(0, count, size)]
    left = [tuple(document for document in span if document not in gone) for span in spans]
    return [part for part in left if part]


def _worst(session: Session, parts: Sequence[tuple[int, ...]], size: int, known: dict[tuple[int, ...], int]) -> int:
    """Return the worst document of all parts; what was asked before is in ``known``."""
    new = [part for part in parts if len(part) > 1 and part not in known]
    known.update(zip(new, session.worsts(new)))
    worsts = tuple(known[part] if len(part) > 1 else part[0] for part in parts)
    if len(worsts) == 1:
        return worsts[0]
    groups = [worsts[start : start + size] for start in range(0, len(worsts), size)]
    return _worst(session, groups, size, known)
