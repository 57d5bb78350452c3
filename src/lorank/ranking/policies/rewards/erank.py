r"""ERank's reward: a score that is written for one document earns what the list is worth that it gives rise to.

    R(s | d) = nDCG@k of the list in which d has the score s, and every other document d' the mean \bar{s}_{d'}

Each document of a list is asked about by itself, several times; \bar{s} is the mean of the scores, from 0 to 10, that
the replies of one draw gave it. So inference stays pointwise, and what is learned is listwise. Documents with one score
stand in the worst order for the labels; a reply without a score from 0 to 10 earns 0.

Paper: Y. Cai et al., ERank: Fusing Supervised Fine-Tuning and Reinforcement Learning for Effective and Efficient Text
Reranking, 2025, arXiv:2509.00520.

*Deviations*: reconstructed from the idea, a reward per pointwise output that is derived from the list. That the others
are held at their means, and a document without any score at 0, is ours. The mean is over the replies of one step.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from lorank.errors import UsageError
from lorank.ranking.judges.question import Question
from lorank.ranking.judges.reading import read_reply
from lorank.ranking.losses.rewards import induced_list_reward
from lorank.ranking.policies.rewards.registry import Asked, reward

HIGHEST = 10.0
"""The highest score that a pointwise prompt asks for."""


def written_score(text: str) -> float | None:
    """Return the score from 0 to 10 that a reply gives, None where it gives none.

    >>> written_score("<think>so</think><answer>7</answer>"), written_score("11")
    (7.0, None)
    """
    said = read_reply(Question("pointwise", (0,)), text)
    return float(said) if said is not None and 0 <= said <= HIGHEST else None


def beside_the_rest(texts: Sequence[str], asked: Sequence[Asked]) -> list[Asked]:
    """Return the questions, each with the mean scores and the labels of the other documents of its list.

    >>> one, two = Asked("pointwise", (1.0,), of=(0, 0)), Asked("pointwise", (0.0,), of=(0, 1))
    >>> beside_the_rest(["4", "8", "5"], [one, one, two])[2].rest
    ((6.0, 1.0),)
    """
    scores: dict[tuple[int, int], list[float]] = defaultdict(list)
    labels = {question.of: question.labels[0] for question in asked if question.of is not None}
    for text, question in zip(texts, asked, strict=True):
        score = written_score(text)
        if question.of is not None and score is not None:
            scores[question.of].append(score)
    means = {of: sum(scores[of]) / max(1, len(scores[of])) for of in labels}
    return [
        question
        if question.of is None
        else replace(
            question,
            rest=tuple(
                (means[of], label) for of, label in labels.items() if of[0] == question.of[0] and of != question.of
            ),
        )
        for question in asked
    ]


@reward("erank", kinds=("pointwise",), parts=("list",), prepare=beside_the_rest)
def erank(text: str, asked: Asked, *, k: int = 10) -> list[float]:
    """Return the nDCG@k of the list in which the document has the score that the reply gives it.

    Args:
        text: The reply.
        asked: The question, with the rest of its list.
        k: The cutoff, 1 or more.

    >>> question = Asked("pointwise", (1.0,), rest=((6.0, 0.0),))
    >>> erank("7", question), [round(value, 4) for value in erank("5", question)], erank("no idea", question)
    ([1.0], [0.6309], [0.0])
    """
    if k < 1:
        raise UsageError(f"k must be 1 or above; got {k}")
    score = written_score(text)
    if score is None:
        return [0.0]
    scores = [score, *(other for other, _ in asked.rest)]
    return [induced_list_reward(scores, [asked.labels[0], *(label for _, label in asked.rest)], k)]
