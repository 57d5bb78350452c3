"""Rewards of scored groups and of eliminations, with the published weights where there are some.

    grouprank  (1 - w) nDCG@10 of the group + w (1 - mean |score - label| / 10), labels stretched to 0 .. 10; w = 0.5
    iranker    the share of the rest of the pool that is more relevant than what was removed, ties half

Papers: D. Sun et al., GroupRank: A Groupwise Reranking Paradigm Driven by Reinforcement Learning, 2025; T. Feng et al.,
IRanker: Towards Ranking Foundation Model, 2025.

*Deviations*: the distribution part of GroupRank and the step reward of IRanker were reconstructed from the papers'
descriptions, as in `lorank.ranking.losses.rewards`; a reply that cannot be read earns 0.
"""

from lorank.ranking.judges.question import Question
from lorank.ranking.judges.reading import read_reply
from lorank.ranking.losses.rewards import elimination_reward, groupwise_reward
from lorank.ranking.policies.rewards.registry import Asked, reward

SCALE = 10.0
"""What the highest grade of a group is stretched to, as groupwise prompts ask for scores from 0 to 10."""


@reward("grouprank", kinds=("groupwise",), parts=("group",))
def grouprank(text: str, asked: Asked, *, distribution: float = 0.5) -> list[float]:
    """Return the reward of the scores of one group.

    Args:
        text: The reply.
        asked: The question.
        distribution: w, from 0 to 1.

    >>> grouprank("[1]: 0, [2]: 10", Asked("groupwise", (0.0, 1.0)))
    [1.0]
    """
    scores = read_reply(Question("groupwise", tuple(range(asked.size))), text)
    if scores is None or len(scores) != asked.size or None in scores:
        return [0.0]
    highest = max(asked.labels) or 1.0
    return [groupwise_reward(scores, [SCALE * label / highest for label in asked.labels], distribution=distribution)]


@reward("iranker", kinds=("exclude",), parts=("removed",))
def iranker(text: str, asked: Asked) -> list[float]:
    """Return the reward of one elimination.

    >>> iranker("[2]", Asked("exclude", (2.0, 0.0, 1.0)))
    [1.0]
    """
    said = read_reply(Question("exclude", tuple(range(asked.size))), text)
    return [0.0] if said is None or not 0 <= said < asked.size else [elimination_reward(asked.labels, said)]
