"""Pointwise: each document is scored alone, and the documents are sorted by score.

Calls: n, all at once. Documents without a usable score go last, in the order given.

Paper: Nogueira and Cho, Passage Re-ranking with BERT, 2019; for language models Zhuang et al., 2023.
"""

import numpy as np

from lorank.ranking.judges import Session
from lorank.ranking.strategies.registry import Standing, by_score, register_strategy


@register_strategy("pointwise", title="Pointwise reranking", published=False)
def pointwise(session: Session, top: int, generator: np.random.Generator) -> Standing:
    """Sort by one score a document."""
    scores = session.points(range(session.count))
    return Standing(by_score(scores), scores)
