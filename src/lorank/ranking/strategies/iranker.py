"""IRanker: at each step the judge removes the worst candidate of the pool, until one is left.

The order is the reverse of the elimination; n - 1 calls, one after the other, on pools of n, n - 1, ..., 2.

Paper: Feng et al., IRanker: Towards Ranking Foundation Model, 2025.
"""

import numpy as np

from lorank.ranking.judges import Session
from lorank.ranking.strategies.registry import Standing, register_strategy


@register_strategy("iranker", title="IRanker: Towards Ranking Foundation Model")
def iranker(session: Session, top: int, generator: np.random.Generator) -> Standing:
    """Order by repeated exclusion of the worst."""
    pool = list(range(session.count))
    removed: list[int] = []
    while len(pool) > 1 and not session.spent:
        worst = session.worsts([pool])[0]
        pool.remove(worst)
        removed.append(worst)
    return Standing(pool + removed[::-1])
