"""Whole replies: every token has the advantage of its reply, as in GRPO."""

from lorank.ranking.policies.credits.registry import Reply, credit


@credit("whole")
def whole(reply: Reply) -> list[float]:
    """Return the advantage of the reply for each token.

    >>> from lorank.ranking.policies.rewards import Asked
    >>> whole(Reply(["[", "1", "]"], Asked("setwise", (1.0, 0.0)), 0.5, 0.25))
    [0.5, 0.5, 0.5]
    """
    return [reply.advantage] * len(reply.pieces)
