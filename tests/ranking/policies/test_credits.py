"""Credit within replies: sums are kept, outcomes alone are GRPO, thoughts are run lengths, detours get less."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorank.errors import UsageError
from lorank.ranking.policies.credits import CREDITS, Reply, find_credit
from lorank.ranking.policies.credits.thoughts import judge_steps, merge_thoughts, split_steps, thoughts
from lorank.ranking.policies.objective import clipped_objective
from lorank.ranking.policies.rewards import Asked

ASKED = Asked("setwise", (0.0, 2.0, 1.0))
TEXTS = ("", "[", "1", "2", "]", "[2]", "[3] ", "so", " not ", ". ", "\n", "</think>")
PIECES = st.lists(st.sampled_from(TEXTS), max_size=30)


@pytest.mark.parametrize("name", sorted(CREDITS))
@given(pieces=PIECES, advantage=st.floats(-3, 3), rate=st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_the_mean_over_the_tokens_is_the_advantage_of_the_reply(name, pieces, advantage, rate):
    found = find_credit(name)(Reply(pieces, ASKED, advantage, rate))
    assert len(found) == len(pieces)
    assert sum(found) == pytest.approx(len(pieces) * advantage, abs=1e-9)


@given(pieces=PIECES, rate=st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_outcomes_alone_and_a_policy_that_never_answers_right_are_grpo(pieces, rate):
    for reply, process in ((Reply(pieces, ASKED, 0.7, rate), 0.0), (Reply(pieces, ASKED, 0.7, 0.0), 2.0)):
        assert thoughts(reply, process=process) == pytest.approx([0.7] * len(pieces))


@given(st.lists(st.sampled_from([-1, 0, 1]), max_size=40))
@settings(max_examples=60, deadline=None)
def test_thoughts_are_the_run_length_encoding_of_verdicts(verdicts):
    runs = merge_thoughts(verdicts)
    assert [verdict for verdict, count in runs for _ in range(count)] == verdicts
    assert all(one[0] != two[0] for one, two in itertools.pairwise(runs))
    assert all(count >= 1 for _, count in runs)


@given(PIECES)
@settings(max_examples=60, deadline=None)
def test_steps_are_the_text_and_every_token_begins_in_one(pieces):
    steps, places = split_steps(pieces)
    assert "".join(steps) == "".join(pieces)
    assert len(places) == len(pieces)
    assert places == sorted(places)
    starts = [len("".join(pieces[:i])) for i in range(len(pieces))]
    edges = [len("".join(steps[:i])) for i in range(len(steps))]
    for start, place in zip(starts, places):
        assert place == max(i for i, edge in enumerate(edges) if edge <= start)


@pytest.mark.parametrize(
    ("step", "verdict"),
    [
        ("[2] answers the question.", 1),
        ("[1] answers the question.", -1),
        ("[1] is not about it.", 1),
        ("[2] isn't about it.", -1),
        ("[3] is irrelevant.", 1),
        ("[1] or [2]?", 0),
        ("I do not know.", 0),
    ],
)
def test_a_step_is_judged_by_the_one_passage_that_it_names(step, verdict):
    assert judge_steps([step], ASKED) == [verdict]


def test_a_step_that_names_none_goes_on_with_the_thought_before():
    steps = ["First.", "[1] fits.", "It says so.", "Wait, [1] is wrong.", "Then [2].", "Yes."]
    assert judge_steps(steps, ASKED) == [0, -1, -1, 1, 1, 1]


def test_of_two_right_replies_the_tokens_of_the_detour_get_less():
    detour = ["[1] fits. ", "It is on it. ", "No, [1] is wrong. ", "[2]"]
    found = thoughts(Reply(detour, ASKED, 1.0, 0.5), process=1.0)
    assert found == pytest.approx([1 - 0.5, 1 - 0.5, 1 + 0.5, 1 + 0.5])
    assert thoughts(Reply(["[2] fits. ", "[2]"], ASKED, 1.0, 0.5), process=1.0) == pytest.approx([1.0, 1.0])


def test_the_objective_of_an_unmoved_policy_is_that_of_grpo():
    replies = [["[1] fits. ", "No, [1] is wrong. ", "[2]"], ["[3]. ", "[3]. ", "[1]"]]
    gains, logs = [0.8, -0.8], torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    shared = torch.tensor([thoughts(Reply(p, ASKED, gain, 0.5), process=1.0) for p, gain in zip(replies, gains)])
    mask = torch.ones(2, 3, dtype=torch.bool)
    plain = clipped_objective(logs, logs, torch.tensor(gains), mask)
    torch.testing.assert_close(clipped_objective(logs, logs, shared, mask), plain)


def test_what_cannot_be_is_refused():
    with pytest.raises(UsageError, match="process must be 0 or above"):
        thoughts(Reply(["a"], ASKED, 1.0, 0.5), process=-1.0)
    with pytest.raises(UsageError, match="did you mean 'thoughts'"):
        find_credit("thought")
