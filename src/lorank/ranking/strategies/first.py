"""FIRST: a window is ordered by the logits of its identifiers at the first decoded token.

order = argsort of -logit(identifier of d), d in the window; one token a window instead of a written-out permutation.
Windows slide as in ``sliding``; calls ceil((n - w) / s) + 1.

Paper: Gangi Reddy et al., FIRST: Faster Improved Listwise Reranking with Single Token Decoding, 2024.
"""

import numpy as np

from lorank.ranking.judges import Session
from lorank.ranking.strategies.registry import Standing, register_strategy
from lorank.ranking.strategies.windows import slide


@register_strategy("first", title="FIRST: Faster Improved Listwise Reranking with Single Token Decoding")
def first(
    session: Session, top: int, generator: np.random.Generator, *, size: int = 20, step: int = 10, passes: int = 1
) -> Standing:
    """Order windows of ``size`` documents, moving up by ``step``, ``passes`` times, by one token each.

    Args:
        session: The questions to the judge about one query's documents, with its cache and its budget.
        top: It is not used; the whole list is ordered.
        generator: It is not used.
        size: The number of documents in a window, 2 or more.
        step: The number of places by which a window moves up, from 1 to ``size`` - 1.
        passes: The number of passes over the list, 1 or more.
    """
    return Standing(slide(session, list(range(session.count)), size, step, passes, "identifiers"))
