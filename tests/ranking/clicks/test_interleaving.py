"""Every interleaving: fair to equal rankers, prefers the better one, and refuses what it cannot merge."""

import numpy as np
import pytest

from lorank.errors import UsageError
from lorank.ranking.clicks.interleaving import INTERLEAVINGS, interleave, preference
from lorank.ranking.clicks.interleaving.optimised import _solve, allowed

every_method = pytest.mark.parametrize("method", sorted(INTERLEAVINGS))
GOOD, BAD = list("abcdef"), list("fedcba")
CHANCE = dict(zip("abcdef", [0.9, 0.7, 0.5, 0.2, 0.1, 0.05]))


@every_method
def test_lists_hold_each_document_once_and_come_from_the_rankings(method):
    rng = np.random.default_rng(0)
    for _ in range(50):
        shown = interleave(GOOD, ["a", "g", "h"], 5, rng, method)
        assert len(set(shown.documents)) == len(shown.documents) == len(shown.credit) == 5
        assert set(shown.documents) <= {*GOOD, "g", "h"}


@every_method
def test_the_better_ranker_is_preferred(method):
    rng, outcomes = np.random.default_rng(1), []
    for _ in range(400):
        shown = interleave(GOOD, BAD, 4, rng, method)
        clicks = [int(rng.random() < CHANCE[d] / (k + 1)) for k, d in enumerate(shown.documents)]
        outcomes.append(shown.outcome(clicks))
    found = preference(outcomes)
    assert found.mean > 0
    assert found.p < 0.01
    mirrored = preference([-each for each in outcomes])
    assert mirrored.mean == pytest.approx(-found.mean)


@every_method
def test_a_user_who_clicks_at_random_prefers_neither(method):
    rng = np.random.default_rng(2)
    outcomes = []
    for _ in range(3000):
        shown = interleave(GOOD, ["b", "a", "d", "c", "f", "e"], 4, rng, method)
        outcomes.append(shown.outcome([int(rng.random() < 0.5 / (k + 1)) for k in range(4)]))
    assert abs(np.mean(outcomes)) < 4 * np.std(outcomes) / np.sqrt(3000)


@every_method
def test_equal_rankings_give_an_even_credit(method):
    rng = np.random.default_rng(3)
    outcomes = [interleave(GOOD, GOOD, 4, rng, method).outcome([1, 1, 0, 0]) for _ in range(2000)]
    assert abs(np.mean(outcomes)) < 0.15


@every_method
def test_bad_input_is_named(method):
    rng = np.random.default_rng(0)
    for first, second, length, says in (
        (["a", "a"], ["b"], 2, "twice"),
        ([], ["b"], 2, "nothing"),
        (["a"], ["b"], 0, "nothing"),
    ):
        with pytest.raises(UsageError, match=says):
            interleave(first, second, length, rng, method)


def test_the_optimal_chances_leave_a_blind_user_even_at_every_depth():
    lists, chances, credits = _solve(tuple("abc"), tuple("bca"), 3)
    assert chances.sum() == pytest.approx(1)
    for k in range(1, 4):
        assert sum(p * sum(credits[d] for d in each[:k]) for p, each in zip(chances, lists)) == pytest.approx(
            0, abs=1e-7
        )
    assert len(allowed("abc", "abc", 3)) == 1


def test_an_unknown_method_and_no_outcome():
    with pytest.raises(UsageError, match="did you mean 'team-draft'"):
        interleave(["a"], ["b"], 1, np.random.default_rng(0), "team-drft")
    with pytest.raises(UsageError, match="no outcome"):
        preference([])


def test_the_sign_test_is_that_of_enumeration():
    values = [1.0, 1.0, 1.0, -1.0]  # of 16 signs, 5 + 5 have a mean of at least one half in size
    assert preference(values, samples=20_000).p == pytest.approx(10 / 16, abs=0.02)
