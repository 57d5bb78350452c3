"""Full ranking: all documents in one listwise question. Calls: 1.

Paper: Liu et al., Sliding Windows Are Not the End: Exploring Full Ranking with Long-Context Large Language Models,
2024.
"""

import numpy as np

from lorank.ranking.judges import Session
from lorank.ranking.strategies.registry import Standing, register_strategy


@register_strategy(
    "full",
    title="Sliding Windows Are Not the End: Exploring Full Ranking with Long-Context Large Language Models",
    aliases=("full-ranking-longctx",),
    published="full-ranking-longctx",
)
def full(session: Session, top: int, generator: np.random.Generator) -> Standing:
    """Order by one listwise question."""
    return Standing(session.orders([range(session.count)])[0])
