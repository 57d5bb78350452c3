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
    """Order windows of ``size`` documents, moving up by ``step``, ``passes`` times, by one token each."""
    return Standing(slide(session, list(range(session.count)), size, step, passes, "identifiers"))
