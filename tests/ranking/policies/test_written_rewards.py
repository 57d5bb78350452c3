"""Rewards of written replies against their published definitions and constants, worked by hand."""

import math

import pytest
import torch

from lorank.ranking.policies.rewards import Asked, find_rewards
from lorank.ranking.policies.rewards.lists import rank_returns

LIST = Asked("listwise", (0.0, 1.0, 0.0, 1.0))


def said(order):
    return f"<think>so</think> <answer>{' > '.join(f'[{place + 1}]' for place in order)}</answer>"


def value(name, text, asked):
    scoring = find_rewards(name, asked.kind)
    return float(scoring([text], [asked]) @ torch.tensor(scoring.weights))


@pytest.mark.parametrize(
    ("text", "earned"),
    [
        ("<think>x</think><answer>[2]</answer>", 1.0),
        ("<think>x</think><answer>[4]</answer>", 1.0),
        ("<think>x</think><answer>[1]</answer>", 0.0),
        ("[2]", 0.0),
        ("<answer>[2]</answer>", 0.0),
    ],
)
def test_rank_r1_is_one_for_the_format_and_the_label(text, earned):
    assert value("rank-r1", text, Asked("setwise", LIST.labels)) == earned  # exact: 0 or 1


def test_reasonrank_has_the_constants_of_its_published_code():
    order = [1, 0, 3, 2]
    gain = (1 + 1 / math.log2(4)) / (1 + 1 / math.log2(3))
    ideal = [1, 3, 0, 2]
    overlap = sum(len(set(order[:d]) & set(ideal[:d])) / d for d in range(1, 5)) / 4
    assert value("reasonrank", said(order), LIST) == pytest.approx(gain + 0.2 * 1.0 + 0.1 * overlap)
    assert value("reasonrank", said(ideal), LIST) == pytest.approx(1.3)
    assert value("reasonrank", said([1, 0]), LIST) == 0.0
    assert value("reasonrank", "[2] > [1] > [4] > [3]", LIST) == pytest.approx(-1.0)


@pytest.mark.parametrize("rank", [1, 2, 3, 4])
def test_ranked_list_is_the_reciprocal_rank_and_0_where_the_answer_is_absent(rank):
    asked = Asked("listwise", tuple(float(i == 0) for i in range(9)))
    order = [1, 2, 3, 4]
    order.insert(rank - 1, 0)
    assert value("ranked-list-rft", said(order), asked) == pytest.approx(1 / rank)
    assert value("ranked-list-rft", said([1, 2, 3]), asked) == 0.0
    longer = [*order, 5, 6]
    assert value("ranked-list-rft", said(longer), asked) == pytest.approx(1 / rank - 0.1 * 2)
    assert value("ranked-list-rft", "[1]", asked) == 0.0


def test_the_return_of_a_rank_does_not_know_what_stands_above_it():
    below = [0.0, 1.0, 1.0]
    for first in (0.0, 1.0):
        assert rank_returns([first, *below])[1:] == pytest.approx(rank_returns([0.0, *below])[1:])
    assert rank_returns([1.0, 0.0, 1.0]) == pytest.approx([1 + 1 / 2, 1 / 2, 1 / 2])
    assert rank_returns([1.0, 0.0, 1.0], "own") == [1.0, 0.0, 1.0]  # exact: copied
    scoring = find_rewards("rank-grpo", "listwise")
    rows = scoring(["[2] > [4] > [1] > [3]", "[2] > [2]"], [LIST, LIST])
    torch.testing.assert_close(rows[0], torch.tensor(rank_returns([1.0, 1.0, 0.0, 0.0])))
    assert rows[1].abs().sum() == 0


def test_parts_of_joined_rewards_are_named_and_weighed():
    scoring = find_rewards("reasonrank+length+repetition", "listwise", k=1)
    assert scoring.parts == ("ndcg", "recall", "rbo", "length", "repetition")
    assert scoring.weights == pytest.approx((1.0, 0.2, 0.1, 1.0, 1.0))
    parts = scoring([said([1, 3, 0, 2])], [LIST])
    assert parts[0, :2].tolist() == pytest.approx([1.0, 0.5])
