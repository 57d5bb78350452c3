"""Rewards by which judges are tuned: pure functions of what a judge said and of the labels.

- Rank-R1 (setwise): 1 if the reply has a thought and an answer and names the most relevant document, else 0.
- ReasonRank (listwise): nDCG@k + phi Recall@k + gamma RBO if the format is right, else 0.
- ERank (pointwise): the nDCG@k of the list that the pointwise scores induce; its score is sum_s s P(s), s = 0..10.
- IRanker (elimination): the share of the rest of the pool that is more relevant than what was removed, ties half.
- GroupRank (groups): (1 - w) nDCG of the group + w (1 - mean |score - label| / range), whose second part makes scores
  of different groups comparable.

Papers: Zhuang et al., Rank-R1, 2025; Liu et al., ReasonRank: Empowering Passage Ranking with Strong Reasoning Ability,
2025; Cai et al., ERank, 2025; Feng et al., IRanker, 2025; Sun et al., GroupRank, 2025.

*Deviations*: the reward of a step of IRanker and the distribution part of GroupRank were reconstructed from the papers'
descriptions; nDCG has linear gain. ReasonRank's weights are those of its published code, whose gates and binary gains
are in `lorank.ranking.policies.rewards.lists`.
"""

import re
from collections.abc import Sequence

import numpy as np

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.ranking.judges.question import Question
from lorank.ranking.judges.reading import read_reply
from lorank.ranking.metrics.overlap import rank_biased_overlap

_FORMAT = re.compile(r"\s*<think>(?:(?!</?think>).)*</think>\s*<answer>(?:(?!</?answer>).)*</answer>\s*", re.DOTALL)


def has_format(text: str) -> bool:
    """Return whether a reply is one thought and one answer, and nothing else.

    >>> has_format("<think>hm</think> <answer>[2]</answer>"), has_format("[2]")
    (True, False)
    """
    return _FORMAT.fullmatch(text) is not None


def setwise_reward(text: str, size: int, best: int) -> float:
    """Return Rank-R1's reward of a reply to a setwise question of ``size`` documents, the best at place ``best``."""
    said = read_reply(Question("setwise", tuple(range(size))), text)
    return float(has_format(text) and said == best)


def ndcg(order: Sequence[int], labels: Sequence[float], k: int = 10) -> float:
    """Return nDCG@k (linear gain) of an order of positions; 0 where no label is above 0.

    >>> ndcg([1, 0], [0, 3]), ndcg([0, 1], [0, 0])
    (1.0, 0.0)
    """
    gains = np.asarray(labels, dtype=np.float64)
    discount = 1 / np.log2(np.arange(2, min(k, len(gains)) + 2))
    best = np.sort(gains)[::-1][:k] @ discount
    placed = gains[list(order[:k])]
    return float(placed @ discount[: len(placed)] / best) if best > 0 else 0.0


def listwise_reward(text: str, labels: Sequence[float], *, k: int = 10, phi: float = 0.2, gamma: float = 0.1) -> float:
    """Return ReasonRank's reward of a reply to a listwise question over documents with ``labels``.

    Args:
        text: The reply; it must be a thought and an answer that names every document once.
        labels: Relevance of the documents, in the order shown.
        k: Cut-off of nDCG and recall.
        phi: Weight of the recall of documents with a label above 0.
        gamma: Weight of the rank-biased overlap with the ideal order.

    >>> listwise_reward("<think>so</think><answer>[2] > [1]</answer>", [0, 1], phi=0.5, gamma=0.25)
    1.75
    """
    order = read_reply(Question("listwise", tuple(range(len(labels)))), text)
    if not has_format(text) or order is None or sorted(order) != list(range(len(labels))):
        return 0.0
    relevant = {place for place, label in enumerate(labels) if label > 0}
    recall = len(relevant & set(order[:k])) / len(relevant) if relevant else 0.0
    ideal = sorted(range(len(labels)), key=lambda place: -labels[place])
    return ndcg(order, labels, k) + phi * recall + gamma * rank_biased_overlap(order, ideal)


def consistent_lists(
    orders: Sequence[Sequence[int]], labels: Sequence[Sequence[float]], threshold: float = 0.8, k: int = 10
) -> list[int]:
    """Return which synthesised lists to keep: those whose nDCG@k by their own labels is ``threshold`` or above.

    Args:
        orders: The positions of the documents of each list, best first.
        labels: The grades of the documents of each list, 0 and up.
        threshold: The lowest nDCG@k, from 0 to 1, of a list that is kept.
        k: The cutoff of nDCG, 1 or more.

    Returns:
        The positions of the kept lists, in the order given.
    """
    return [i for i, (order, own) in enumerate(zip(orders, labels)) if ndcg(order, own, k) >= threshold]


@catalogued(
    "erank",
    area="rerank",
    title="ERank: Fusing Supervised Fine-Tuning and Reinforcement Learning for Effective and Efficient Text Reranking",
)
def expected_score(logits: Sequence[float], scores: Sequence[float] = range(11)) -> float:
    """Return ERank's score, sum_s s softmax(logits)_s, of the logits of the integer ``scores``.

    >>> expected_score([0.0, 0.0], [4, 5])
    4.5
    """
    if len(logits) != len(scores):
        raise UsageError(f"{len(logits)} logits for {len(scores)} scores")
    weights = np.exp(np.asarray(logits, dtype=np.float64) - np.max(logits))
    return float(weights @ np.asarray(scores, dtype=np.float64) / weights.sum())


def induced_list_reward(scores: Sequence[float], labels: Sequence[float], k: int = 10) -> float:
    """Return the nDCG@k of the order that pointwise scores induce, ties in the worst order for the labels."""
    order = sorted(range(len(scores)), key=lambda place: (-scores[place], labels[place]))
    return ndcg(order, labels, k)


def elimination_reward(pool: Sequence[float], removed: int) -> float:
    """Return IRanker's reward of removing ``removed`` from a pool of documents with the labels ``pool``.

    >>> elimination_reward([2, 0, 1], 1), elimination_reward([2, 0, 1], 2), elimination_reward([2, 0, 1], 0)
    (1.0, 0.5, 0.0)
    """
    others = np.delete(np.asarray(pool, dtype=np.float64), removed)
    return float((others > pool[removed]).mean() + 0.5 * (others == pool[removed]).mean()) if len(others) else 1.0


def groupwise_reward(
    scores: Sequence[float], labels: Sequence[float], *, distribution: float = 0.5, scale: float = 10.0, k: int = 10
) -> float:
    """Return GroupRank's reward of the scores of one group.

    Args:
        scores: What the judge gave, from 0 to ``scale``.
        labels: Relevance on the same scale, the same for every group that a document may fall in.
        distribution: The weight w of the distribution part, in [0, 1].
        scale: The range of scores.
        k: Cut-off of nDCG.
    """
    if not 0 <= distribution <= 1:
        raise UsageError(f"distribution must be in [0, 1], got {distribution}")
    apart = np.abs(np.asarray(scores, dtype=np.float64) - np.asarray(labels, dtype=np.float64)).mean() / scale
    return (1 - distribution) * induced_list_reward(scores, labels, k) + distribution * float(1 - min(apart, 1.0))
