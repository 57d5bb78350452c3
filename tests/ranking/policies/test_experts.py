"""Experts: the reply that labels ask for is readable and earns everything, for every kind of question."""

import pytest
import torch

from lorank.errors import UsageError
from lorank.ranking.judges.question import Question
from lorank.ranking.judges.reading import read_reply
from lorank.ranking.policies.experts import expert_reply, expert_score
from lorank.ranking.policies.presets import QUESTIONS
from lorank.ranking.policies.rewards import Asked, find_rewards

LABELS = [(0.0, 2.0, 1.0, 2.0), (1.0,), (0.0, 3.0), (3.0, 0.0, 0.0, 1.0, 2.0)]


def earned(text, asked):
    return float(find_rewards("expert", asked.kind)([text], [asked])[0, 0])


@pytest.mark.parametrize("kind", QUESTIONS)
@pytest.mark.parametrize("labels", LABELS)
def test_the_experts_reply_can_be_read_and_earns_one(kind, labels):
    shown = labels[:1] if kind == "pointwise" else labels
    asked = Asked(kind, shown, highest=3.0)
    text = expert_reply(kind, shown, 3.0)
    assert read_reply(Question(kind, tuple(range(len(shown)))), text) is not None
    assert earned(text, asked) == pytest.approx(1.0)


@pytest.mark.parametrize("relevant", range(5))
def test_a_selection_is_as_long_as_there_is_to_read(relevant):
    labels = [float(place < relevant) for place in range(4)]
    said = read_reply(Question("selection", (0, 1, 2, 3)), expert_reply("selection", labels, 1.0))
    assert said == list(range(min(relevant, 4)))


def test_grades_stretch_over_ten_scores():
    assert [expert_score(grade, 3.0) for grade in (-1.0, 0.0, 1.0, 2.0, 3.0)] == [0, 0, 3, 7, 10]
    with pytest.raises(UsageError, match="must be above 0"):
        expert_score(0.0, 0.0)
    with pytest.raises(UsageError, match="pointwise"):
        expert_reply("pairwise", [0.0, 1.0], 1.0)


def test_what_is_left_out_or_added_costs_and_so_does_the_order():
    asked = Asked("selection", (2.0, 1.0, 0.0))
    missing, added = earned("[1]", asked), earned("[1] > [2] > [3]", asked)
    assert missing == pytest.approx(2 * 1 / (2 + 1))
    assert added == pytest.approx(2 * 2 / (2 + 3))
    ideal = 2 + 1 / torch.tensor(3.0).log2()
    assert earned("[2] > [1]", asked) == pytest.approx(float((1 + 2 / torch.tensor(3.0).log2()) / ideal))
    assert earned("NONE", asked) == pytest.approx(0.0)
    assert earned("[4]", asked) == pytest.approx(0.0)


@pytest.mark.parametrize(("text", "near"), [("10", 0.3), ("3", 1.0), ("11", 0.0), ("none", 0.0)])
def test_a_score_earns_by_how_near_it_is(text, near):
    assert earned(text, Asked("pointwise", (1.0,), highest=3.0)) == pytest.approx(near)
