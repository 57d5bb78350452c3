"""Listwise sliding windows (RankGPT): windows are put in order from the end of the list to its front.

Calls: ceil((n - w) / s) + 1 a pass, one after the other; with a perfect judge a pass settles the first w - s places.

Rank-K is this with a model that thinks before it writes the order: the reply's order after the thinking mark counts,
and the judge's ``max_tokens`` says how long it may think.

Paper: Sun et al., Is ChatGPT Good at Search? Investigating Large Language Models as Re-Ranking Agents, 2023; Yang et
al., Rank-K: Test-Time Reasoning for Listwise Reranking, 2025.
"""

import numpy as np

from lorank.catalogue import enter_method
from lorank.ranking.judges import Session
from lorank.ranking.strategies.registry import Standing, register_strategy
from lorank.ranking.strategies.windows import slide


@register_strategy(
    "sliding",
    title="Is ChatGPT Good at Search? Investigating Large Language Models as Re-Ranking Agents",
    aliases=("rank-k",),
    published=False,
)
def sliding(
    session: Session, top: int, generator: np.random.Generator, *, size: int = 20, step: int = 10, passes: int = 1
) -> Standing:
    """Order by windows of ``size`` documents that move up by ``step``, ``passes`` times.

    Args:
        session: The questions to the judge about one query's documents, with its cache and its budget.
        top: It is not used; the windows move over the whole list.
        generator: It is not used.
        size: The number of documents in a window, 2 or more.
        step: The number of places by which a window moves up, from 1 to ``size`` - 1.
        passes: The number of passes over the list, 1 or more.
    """
    return Standing(slide(session, list(range(session.count)), size, step, passes, "listwise"))


enter_method(
    "rank-k", area="rerank", title="Rank-K: Test-Time Reasoning for Listwise Reranking", location=f"{__name__}:sliding"
)
