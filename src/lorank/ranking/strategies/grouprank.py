"""GroupRank: random groups of g documents, one score for each document of a group, all sorted by score.

Calls: ceil(n / g), in one round. A group of one is pointwise scoring, one group of all is listwise.

Paper: Sun et al., GroupRank: A Groupwise Reranking Paradigm Driven by Reinforcement Learning, 2025.
"""

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.judges import Session
from lorank.ranking.strategies.registry import Standing, by_score, register_strategy


@register_strategy("grouprank", title="GroupRank: A Groupwise Reranking Paradigm Driven by Reinforcement Learning")
def grouprank(
    session: Session, top: int, generator: np.random.Generator, *, size: int = 10, shuffle: bool = True
) -> Standing:
    """Order by scores given in groups of ``size``; without ``shuffle`` groups are neighbours in the order given.

    Args:
        session: The questions to the judge about one query's documents, with its cache and its budget.
        top: It is not used; the whole list is ordered.
        generator: The source of the shuffle.
        size: The most documents in a group, 1 or more.
        shuffle: False takes neighbours in the order given as groups.

    Raises:
        UsageError: If ``size`` is below 1.
    """
    if size < 1:
        raise UsageError(f"size must be 1 or above, got {size}")
    dealt = generator.permutation(session.count).tolist() if shuffle else list(range(session.count))
    groups = [dealt[start : start + size] for start in range(0, session.count, size)]
    scores = [0.0] * session.count
    for group, given in zip(groups, session.scores(groups)):
        for d, score in zip(group, given):
            scores[d] = score
    return Standing(by_score(scores), scores)
