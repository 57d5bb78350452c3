"""dynamicrag's reward: its parts worked by hand, their composition, and replies that select nothing readable."""

import math

import pytest
import torch

from lorank.ranking.policies.rewards import Asked, Generated, find_rewards
from lorank.ranking.policies.rewards.dynamicrag import PARTS, selected_places
from lorank.ranking.strategies.dynamicrag import generator_reward


def asked(text, tokens=3, mark=0.75, expected=("big red dog",)):
    return Asked("selection", (0.0, 1.0, 2.0), generated=Generated(text, expected, tokens, mark))


def parts(reply, question):
    return find_rewards("dynamicrag", "selection")([reply], [question])[0].tolist()


def test_the_parts_are_those_of_the_generators_answer():
    found = parts("[3] > [2]", asked("the dog, big"))
    brevity = 1 / (1 + math.log(4))
    assert found == pytest.approx([0.0, 2 * 2 / (2 + 3), 2 * 1 / (2 + 3), brevity, 0.75])
    assert parts("[3]", asked("Big red dog."))[:3] == pytest.approx([1.0, 1.0, 1.0])


def test_their_sum_is_the_composed_reward_of_the_paper():
    scoring = find_rewards("dynamicrag", "selection")
    assert scoring.parts == PARTS
    assert scoring.weights == pytest.approx((0.2,) * 5)
    exact, similarity, fluency, _, mark = parts("NONE", asked("red dog", tokens=2))
    whole = float(scoring(["NONE"], [asked("red dog", tokens=2)])[0] @ torch.tensor(scoring.weights))
    composed = generator_reward(exact_match=exact, similarity=similarity, fluency=fluency, length=2, judge=mark)
    assert whole == pytest.approx(composed)


@pytest.mark.parametrize("reply", ["no idea", "[4]", "[1] > [1]", "<think>[1]"])
def test_what_cannot_be_read_earns_nothing(reply):
    assert selected_places(reply, 3) is None
    assert parts(reply, asked("big red dog")) == pytest.approx([0.0] * 5)


def test_the_best_of_several_expected_answers_counts():
    assert parts("[1]", asked("Seine", expected=("Rhine", "the Seine")))[0] == pytest.approx(1.0)
