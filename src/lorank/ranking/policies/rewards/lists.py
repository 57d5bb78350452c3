r"""Rewards of written lists.

    reasonrank        nDCG@10 + \phi Recall@10 + \gamma RBO, phi = 0.2, gamma = 0.1, of a thought and a whole list;
                      0 where the list is not whole, -1 where thought and answer are missing
    ranked-list-rft   1 / rank of the first relevant item of the list, 0 where it is absent or the format is wrong, less
                      0.1 for each item beyond the fifth
    rank-grpo         at each rank k the gain from there on, \sum_{j \ge k} h_j / \log_2(1 + j), h_j = 1 for a relevant
                      item ("log-decay"), or h_k alone ("own"); 0 at every rank of a malformed list

Papers: W. Liu et al., ReasonRank, 2025 (arXiv:2508.07050); P. Tantakoun et al., Single Answer is Not Enough: On
Generating Ranked Lists with Medical Reasoning Models, 2025; Y. Zhu et al., Rank-GRPO, 2025.

*Deviations*: reasonrank's constants, its gates, its binary gains and its RBO of persistence 1 (the average overlap) are
those of its published code. The list-length penalty of ranked-list-rft was reconstructed from the paper's description.
"""

from lorank.errors import UsageError
from lorank.ranking.judges.question import Question
from lorank.ranking.judges.reading import read_reply
from lorank.ranking.losses.rewards import has_format, ndcg
from lorank.ranking.metrics.overlap import rank_biased_overlap
from lorank.ranking.policies.rewards.registry import Asked, reward


def written_list(text: str, asked: Asked) -> list[int] | None:
    """Return the places that a reply lists, None where it has no list or names what was not shown."""
    order = read_reply(Question("listwise", tuple(range(asked.size))), text)
    return None if order is None or any(not 0 <= place < asked.size for place in order) else list(order)


@reward("reasonrank", kinds=("listwise",), parts=("ndcg", "recall", "rbo"), weights=(1.0, 0.2, 0.1))
def reasonrank(text: str, asked: Asked, *, k: int = 10) -> list[float]:
    """Return nDCG, recall and overlap with the ideal order; (0, 0, 0) or (-1, 0, 0) where a gate is shut.

    >>> question = Asked("listwise", (0.0, 1.0))
    >>> reasonrank("<think>so</think><answer>[2] > [1]</answer>", question)
    [1.0, 1.0, 1.0]
    >>> reasonrank("<think>so</think><answer>[2]</answer>", question), reasonrank("[2] > [1]", question)
    ([0.0, 0.0, 0.0], [-1.0, 0.0, 0.0])
    """
    if not has_format(text):
        return [-1.0, 0.0, 0.0]
    order = written_list(text, asked)
    if order is None or sorted(order) != list(range(asked.size)):
        return [0.0, 0.0, 0.0]
    gains = [float(label > 0) for label in asked.labels]
    relevant = {place for place, gain in enumerate(gains) if gain}
    recall = len(relevant & set(order[:k])) / len(relevant) if relevant else 0.0
    ideal = sorted(range(asked.size), key=lambda place: -asked.labels[place])
    return [ndcg(order, gains, k), recall, rank_biased_overlap(order, ideal, 1.0)]


@reward("ranked-list-rft", kinds=("listwise", "selection"), parts=("rank", "length"))
def ranked_list(text: str, asked: Asked, *, free: int = 5, penalty: float = 0.1) -> list[float]:
    """Return the reciprocal rank of the first relevant item, and the penalty of a long list.

    Args:
        text: The reply, a thought and an answer.
        asked: The question.
        free: How many items cost nothing, 1 or more.
        penalty: What each further one costs, 0 and up.

    >>> question = Asked("listwise", (0.0, 1.0, 0.0))
    >>> ranked_list("<think>so</think><answer>[3] > [2]</answer>", question)
    [0.5, 0.0]
    """
    if free < 1 or penalty < 0:
        raise UsageError(f"free must be 1 or above and penalty 0 or above; got {free}, {penalty}")
    order = written_list(text, asked) if has_format(text) else None
    if not order:
        return [0.0, 0.0]
    found = next((rank for rank, place in enumerate(order, 1) if asked.labels[place] > 0), None)
    return [0.0 if found is None else 1 / found, -penalty * max(0, len(order) - free)]


@reward("rank-grpo", kinds=("listwise",), parts=("places",), places=True)
def rank_grpo(text: str, asked: Asked, *, credit: str = "log-decay") -> list[float]:
    """Return the return of each rank, as many as documents were shown.

    Args:
        text: The reply.
        asked: The question.
        credit: ``log-decay``, the gain from the rank on, or ``own``, the item's hit alone.

    >>> rank_grpo("[2] > [1]", Asked("listwise", (0.0, 1.0))), rank_grpo("[2]", Asked("listwise", (0.0, 1.0)))
    ([1.0, 0.0], [0.0, 0.0])
    """
    if credit not in ("log-decay", "own"):
        raise UsageError(f"credit={credit!r}: choose log-decay or own")
    order = written_list(text, asked)
    if order is None or sorted(order) != list(range(asked.size)):
        return [0.0] * asked.size
    return rank_returns([float(asked.labels[place] > 0) for place in order], credit)


def rank_returns(hits: list[float], credit: str = "log-decay") -> list[float]:
    """Return r_k of the hits h_k of a list, best first.

    >>> [round(value, 4) for value in rank_returns([1.0, 0.0, 1.0])]
    [1.5, 0.5, 0.5]
    """
    from math import log2

    if credit == "own":
        return list(hits)
    terms = [hit / log2(1 + rank) for rank, hit in enumerate(hits, 1)]
    return [sum(terms[k:]) for k in range(len(terms))]
