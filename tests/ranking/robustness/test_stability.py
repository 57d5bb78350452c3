"""Closed forms of list measures, CASPER's choice, and the rank list sensitivity of a recommender.

Catalogue: nrm-robustness, rls-casper.
"""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorank.errors import UsageError
from lorank.ranking.metrics.overlap import jaccard, rank_biased_overlap
from lorank.ranking.robustness import compare_lists, drop_rate, most_influential, rank_list_sensitivity
from lorank.ranking.robustness.casper import descendants, measure_sensitivity, recommend_next, successors


@given(st.permutations("abcdef"), st.floats(0.1, 1.0))
def test_overlap_is_1_for_equal_lists_symmetric_and_between_0_and_1(order, p):
    assert rank_biased_overlap(order, order, p) == pytest.approx(1.0)
    value = rank_biased_overlap("abcdef", order, p)
    assert 0 <= value <= 1
    assert value == pytest.approx(rank_biased_overlap(order, "abcdef", p))


def test_overlap_by_hand():
    # depths 1 and 2 share 0 of 1 and 2 of 2: (0 + p) / (1 + p)
    assert rank_biased_overlap("ab", "ba", 0.5) == pytest.approx(0.5 / 1.5)
    assert rank_biased_overlap("ab", "ba", 1.0) == pytest.approx(0.5)
    assert rank_biased_overlap("a", "ab", 1.0) == pytest.approx((1 + 0.5) / 2)
    assert rank_biased_overlap("", "") == pytest.approx(1.0)
    assert jaccard("ab", "bc") == pytest.approx(1 / 3)
    with pytest.raises(UsageError, match="persistence"):
        rank_biased_overlap("a", "a", 0.0)


def test_nothing_moved_is_no_drop_and_no_sensitivity():
    lists = {"u": ["a", "b"], "v": ["c"]}
    assert rank_list_sensitivity(lists, lists) == pytest.approx(1.0)
    assert rank_list_sensitivity(lists, lists, "jaccard") == pytest.approx(1.0)
    assert drop_rate(0.5, 0.5) == pytest.approx(0.0)
    assert drop_rate(0.0, 0.0) == pytest.approx(0.0)
    moved = compare_lists({"q": {"a": 2.0, "b": 1.0}}, {"q": {"a": 1.0, "b": 2.0}})
    assert moved.first_changed == pytest.approx(1.0)
    assert rank_list_sensitivity({"u": ["a"]}, {}) == pytest.approx(0.0)
    with pytest.raises(UsageError, match="did you mean 'jaccard'"):
        rank_list_sensitivity(lists, lists, "jacard")
    with pytest.raises(UsageError):
        rank_list_sensitivity({}, {})


def log(seed, users=12, items=15, events=90):
    rng = np.random.default_rng(seed)
    return [(f"u{rng.integers(users)}", f"i{int(items * rng.random() ** 2)}") for _ in range(events)]


@pytest.mark.parametrize("seed", range(3))
def test_caspers_choice_has_the_most_descendants_of_all_events(seed):
    interactions = log(seed)
    follows = successors(interactions)
    reach = np.zeros((len(follows), len(follows)), bool)  # a peer: the closure by repeated squaring
    for one, row in enumerate(follows):
        reach[one, row] = True
    for _ in range(8):
        reach |= reach @ reach
    event = most_influential(interactions)
    assert reach[event].sum() == reach.sum(1).max()
    assert len(descendants(follows, event)) == reach[event].sum()
    assert not reach[:, event].any()


def test_edges_join_consecutive_events_of_a_user_and_of_an_item_alone():
    follows = successors([("u", "a"), ("u", "b"), ("u", "c"), ("v", "a"), ("w", "a")])
    assert follows == [[1, 3], [2], [], [4], []]
    assert successors([("u", "a"), ("u", "b"), ("u", "c")], recent=2) == [[], [2], []]


def test_caspers_choice_lowers_the_sensitivity_more_than_random_events():
    gaps = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        interactions = [(f"u{int(30 * rng.random() ** 1.5)}", f"i{int(40 * rng.random() ** 2)}") for _ in range(300)]
        found = measure_sensitivity(interactions, rng=rng, trials=20)
        gaps.append((found.random_rbo - found.rbo, found.random_jaccard - found.jaccard))
        assert found.rbo < 1.0
    assert (np.mean(gaps, axis=0) > 0).all()


def test_no_perturbation_has_sensitivity_1():
    interactions = log(0)
    assert rank_list_sensitivity(recommend_next(interactions), recommend_next(list(interactions))) == pytest.approx(1.0)


def test_the_recommender_lists_first_what_a_user_met_often():
    lists = recommend_next([("u", "a")] * 5 + [("v", "b")] * 5 + [("w", "c")])
    assert lists["u"][0] == "a"
    assert lists["v"][0] == "b"
    assert all(len(set(row)) == len(row) for row in lists.values())
    assert recommend_next([]) == {}


def test_an_empty_log_is_refused():
    with pytest.raises(UsageError, match="no interaction"):
        most_influential([])
    assert list(itertools.chain(*successors([]))) == []
