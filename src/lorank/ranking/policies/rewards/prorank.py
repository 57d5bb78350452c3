"""ProRank's reward of its prompt warmup: 1 for a reply in the format that was asked for, 1 more for the right one.

A document is asked about by itself, and the reply is 1, relevant, or 0. A document is relevant above grade 0. What the
folder orders by is the expected reply, P(1) / (P(0) + P(1)), which rises with the paper's logit(1) - logit(0). The
second stage is any ranking loss on that difference: ``reading.answers = ["1", "0"]``.

Paper: X. Li et al., ProRank: Prompt Warmup via Reinforcement Learning for Small Language Models Reranking, 2025.

*Deviations*: white space around the reply is no fault of its format. Of each list the most relevant document and one
other are asked about, so that neither reply is right more often than the other.
"""

from lorank.ranking.policies.rewards.registry import Asked, reward

REPLIES = ("0", "1")


@reward("prorank", kinds=("pointwise",), parts=("format", "relevance"))
def prorank(text: str, asked: Asked) -> list[float]:
    """Return 1 or 0 for the format, and 1 or 0 for the relevance of the one document.

    >>> relevant = Asked("pointwise", (2.0,))
    >>> prorank("1", relevant), prorank("0", relevant), prorank("It is 1.", relevant)
    ([1.0, 1.0], [1.0, 0.0], [0.0, 0.0])
    """
    said = text.strip()
    if said not in REPLIES:
        return [0.0, 0.0]
    return [1.0, float((said == "1") == (asked.labels[0] > 0))]
