"""Rank-R1's reward: 1 for a thought and an answer that names the most relevant document, else 0.

Paper: S. Zhuang et al., Rank-R1: Enhancing Reasoning in LLM-based Document Rerankers via Reinforcement Learning, 2025.

*Deviations*: where several documents share the highest grade, each of them is right.
"""

from lorank.ranking.judges.question import Question
from lorank.ranking.judges.reading import read_reply
from lorank.ranking.losses.rewards import has_format
from lorank.ranking.policies.rewards.registry import Asked, reward


@reward("rank-r1", kinds=("setwise",), parts=("answer",))
def rank_r1(text: str, asked: Asked) -> list[float]:
    """Return 1 where the format and the label are right.

    >>> question = Asked("setwise", (0.0, 2.0, 1.0))
    >>> rank_r1("<think>hm</think> <answer>[2]</answer>", question), rank_r1("[2]", question)
    ([1.0], [0.0])
    """
    said = read_reply(Question("setwise", tuple(range(asked.size))), text)
    return [float(has_format(text) and said in asked.best)]


@reward("label", kinds=("setwise",), parts=("label",))
def label(text: str, asked: Asked) -> list[float]:
    """Return 1 where the label is right, with or without a thought.

    >>> label("[2]", Asked("setwise", (0.0, 2.0, 1.0)))
    [1.0]
    """
    return [float(read_reply(Question("setwise", tuple(range(asked.size))), text) in asked.best)]
