import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorank.errors import LorankError, UsageError
from lorank.ranking.consensus import aggregate
from lorank.ranking.consensus.peerrank import peer_rank

PEERRANK = "peerrank"


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 8), st.floats(0.1, 0.6), st.floats(0, 0.4))
def test_the_result_is_the_fixed_point_and_within_the_grades(seed, n, a, b):
    grades = np.random.default_rng(seed).random((n, n))
    x = peer_rank(grades, a=a, b=b)
    agreement = (1 - np.abs(grades - x[:, None])).mean(axis=0)
    assert x == pytest.approx((1 - a - b) * x + a * grades @ x / x.sum() + b * agreement, abs=1e-9)
    assert (x >= 0).all()
    assert (x <= 1).all()


@given(st.floats(0.05, 1), st.integers(2, 6))
def test_unanimity(grade, n):
    assert peer_rank(np.full((n, n), grade)) == pytest.approx(np.full(n, grade))


def test_symmetry_no_dummy_and_no_discrimination():
    grades = np.array([[0.5, 0.8, 0.3], [0.8, 0.5, 0.3], [0.6, 0.6, 0.9]])
    x = peer_rank(grades)
    assert x[0] == pytest.approx(x[1])  # two agents that swap without a trace grade alike
    for grader in range(3):  # no dummy: everyone's grades can change the outcome
        other = grades.copy()
        other[:, grader] = [0.1, 0.9, 0.5]
        assert np.abs(peer_rank(other) - x).max() > 1e-3


def test_half_the_error_of_plain_averaging_where_weak_agents_grade_at_random():
    plain, peers = 0.0, 0.0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        skill = np.concatenate([rng.uniform(0.85, 1.0, 10), rng.uniform(0.0, 0.15, 10)])
        # Of 100 questions a grader knows the share `skill`, and marks the others by the toss of a coin.
        known = rng.random((20, 20, 100)) < skill[None, :, None]
        right = np.arange(100)[None, None, :] < 100 * skill[:, None, None]
        grades = np.where(known, right, rng.random((20, 20, 100)) < 0.5).mean(axis=2)
        plain += np.abs(grades.mean(axis=1) - skill).mean()
        peers += np.abs(peer_rank(grades) - skill).mean()
    assert peers <= plain / 2


def test_grades_that_were_not_given_are_left_out():
    grades = np.array([[np.nan, 0.8, 0.6], [0.4, np.nan, np.nan], [0.2, 0.3, np.nan]])
    x = peer_rank(grades)
    assert x[0] == pytest.approx((0.8 * x[1] + 0.6 * x[2]) / (x[1] + x[2]))
    assert x[1] == pytest.approx(0.4)


def test_by_name_from_a_table():
    table = {"ann": {"bob": 0.9, "cy": 0.2}, "bob": {"ann": 0.8, "cy": 0.3}, "cy": {"ann": 0.1}}
    scores = aggregate(table, PEERRANK).scores
    expected = peer_rank(np.array([[np.nan, 0.8, 0.1], [0.9, np.nan, np.nan], [0.2, 0.3, np.nan]]))
    assert list(scores.values()) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("grades", "options", "message"),
    [
        (np.zeros((2, 3)), {}, "square"),
        (np.full((2, 2), 2.0), {}, "0 to 1"),
        (np.array([[np.nan, np.nan], [0.5, 0.5]]), {}, "nobody grades agent 0"),
        (np.full((2, 2), 0.5), {"a": 0.0}, "above 0"),
        (np.full((2, 2), 0.5), {"a": 0.7, "b": 0.7}, "at most 1"),
    ],
)
def test_bad_grades_are_named(grades, options, message):
    with pytest.raises(UsageError, match=message):
        peer_rank(grades, **options)
    with pytest.raises(UsageError, match="graders that are graded"):
        aggregate({"judge": {"x": 0.5}}, PEERRANK)
    with pytest.raises(LorankError, match="did not settle"):
        peer_rank(np.array([[0.1, 0.9], [0.5, 0.2]]), a=1e-6, max_iterations=3)
