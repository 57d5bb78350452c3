"""erank: what a written score earns is the metric of the list that it gives rise to, worked by hand."""

import math

import pytest
import torch

from lorank.errors import UsageError
from lorank.ranking.policies.rewards import Asked, find_rewards

SECOND = 1 / math.log2(3)
LABELS = (0.0, 2.0, 1.0)


def replies(*scores):
    """Replies to each document of one list, and the questions that they answer."""
    texts = [f"<think>so</think><answer>{score}</answer>" for row in scores for score in row]
    asked = [Asked("pointwise", (LABELS[i],), of=(0, i)) for i, row in enumerate(scores) for _ in row]
    return texts, asked


def test_each_reply_earns_the_ndcg_of_the_list_with_the_others_at_their_means():
    texts, asked = replies((9, 1), (4, 8), (2, 2))  # means 5, 6 and 2
    found = find_rewards("erank", "pointwise")(texts, asked).flatten().tolist()
    best = 2 + SECOND

    def ndcg(*labels):
        return sum(label / math.log2(1 + rank) for rank, label in enumerate(labels, 1)) / best

    expected = [ndcg(0, 2, 1), ndcg(2, 1, 0), ndcg(0, 2, 1), ndcg(2, 0, 1), ndcg(2, 0, 1), ndcg(2, 0, 1)]
    assert found == pytest.approx(expected)


def test_ties_stand_in_the_worst_order_and_lists_do_not_mix():
    texts, asked = replies((3,), (3,), (3,))
    other = [Asked("pointwise", (1.0,), of=(1, 0)), Asked("pointwise", (0.0,), of=(1, 1))]
    found = find_rewards("erank", "pointwise")([*texts, "7", "2"], [*asked, *other]).flatten()
    worst = (0 + 1 * SECOND + 2 / math.log2(4)) / (2 + SECOND)
    torch.testing.assert_close(found, torch.tensor([worst, worst, worst, 1.0, 1.0]))


@pytest.mark.parametrize("text", ["", "certainly", "11", "-1", "<think>7", "3 or 4"])
def test_a_reply_without_a_score_from_0_to_10_earns_nothing_and_is_not_in_the_mean(text):
    texts, asked = replies((5, 5), (6,), (1,))
    texts[1] = text
    found = find_rewards("erank", "pointwise")(texts, asked)
    assert float(found[1]) == pytest.approx(0.0)
    plain = find_rewards("erank", "pointwise")([texts[0], *texts[2:]], [asked[0], *asked[2:]])
    torch.testing.assert_close(found[[0, 2, 3]], plain)


def test_the_cutoff_is_that_of_the_metric_and_is_checked():
    texts, asked = replies((9,), (8,), (1,))
    first = find_rewards("erank", "pointwise", k=1)(texts, asked)
    torch.testing.assert_close(first, torch.zeros(3, 1))  # an irrelevant document comes first
    with pytest.raises(UsageError, match="k must be 1 or above"):
        find_rewards("erank", "pointwise", k=0)
    with pytest.raises(UsageError, match="is for pointwise questions"):
        find_rewards("erank", "setwise")
