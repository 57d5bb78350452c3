"""Agreement of two runs: tau by scipy and by hand, flipped pairs by counting, moves, measures, bad input."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from lorank.errors import UsageError
from lorank.ranking.metrics.agreement import GAPS, compare_runs, count_flipped_pairs, kendall_tau
from lorank.ranking.metrics.measures import mean_of


def run_of(*rows):
    return {f"q{i}": {f"d{j}": float(score) for j, score in enumerate(row)} for i, row in enumerate(rows)}


def compared(first, second, **more):
    return compare_runs(first, second, rng=np.random.default_rng(0), **more)


def test_a_run_agrees_with_itself_whatever_the_scale_of_its_scores():
    rows = np.random.default_rng(1).normal(size=(6, 12))
    found = compared(run_of(*rows), run_of(*(3 * rows + 7)))
    assert found.tau.mean == pytest.approx(1)
    assert found.overlap.mean == pytest.approx(1)
    assert found.rbo.mean == pytest.approx(1)
    assert found.same_first == pytest.approx(1)
    assert found.largest_move is None
    assert sum(each.flipped for each in found.flipped) == 0
    assert sum(each.pairs for each in found.flipped) == 6 * 12 * 11 // 2


def test_a_reversed_run_has_every_pair_flipped():
    rows = np.random.default_rng(2).normal(size=(3, 8))
    found = compared(run_of(*rows), run_of(*-rows), depth=3)
    assert found.tau.mean == pytest.approx(-1)
    assert found.overlap.mean == pytest.approx(0)
    assert all(each.share == pytest.approx(1) for each in found.flipped if each.pairs)
    move = found.largest_move
    assert {move.before, move.after} == {1, 8}


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=12))
def test_tau_is_scipy_s_tau_b_and_flips_are_those_that_are_counted_one_by_one(pairs):
    first, second = (np.array(each, np.float64) for each in zip(*pairs, strict=True))
    expected = kendalltau(first, second).statistic
    if np.isfinite(expected):
        assert kendall_tau(first, second) == pytest.approx(expected)
    else:
        assert kendall_tau(first, second) == pytest.approx(float(np.ptp(first) == np.ptp(second)))
    counted = np.zeros((len(GAPS) - 1, 2), int)
    spread = first.std() or 1.0
    for i, j in combinations(range(len(first)), 2):
        gap = first[i] - first[j]
        if gap != 0:
            place = max(k for k, low in enumerate(GAPS[:-1]) if abs(gap) / spread >= low)
            counted[place] += [1, gap * (second[i] - second[j]) < 0]
    assert count_flipped_pairs(first, second).tolist() == counted.tolist()


def test_only_shared_documents_and_queries_are_compared_and_the_rest_is_told():
    first = {"a": {"x": 3.0, "y": 2.0, "z": 1.0}, "b": {"x": 1.0}, "c": {"x": 1.0, "y": 2.0}}
    second = {"a": {"x": 1.0, "y": 2.0, "w": 9.0}, "b": {"x": 1.0}, "d": {"x": 1.0}}
    found = compared(first, second)
    assert (found.queries, found.left_out, found.documents) == (1, 3, 2)
    assert found.tau.mean == pytest.approx(-1)


def test_measures_are_those_of_each_run_and_intervals_are_over_groups():
    rows = np.random.default_rng(3).normal(size=(8, 10))
    first, second = run_of(*rows), run_of(*(rows + np.random.default_rng(4).normal(size=rows.shape)))
    qrels = {query: {"d1": 1, "d2": 1} for query in first}  # all share their documents: one group
    found = compared(first, second, qrels=qrels, measures=["nDCG@10", "RR@10"])
    for measure, change in found.measures.items():
        assert change.first == pytest.approx(mean_of(first, qrels, measure))
        assert change.second == pytest.approx(mean_of(second, qrels, measure))
        assert change.difference.mean == pytest.approx(change.second - change.first)
        assert np.ptp(change.difference.interval) == pytest.approx(0)  # one group cannot be resampled otherwise
    assert found.groups == 1


def test_queries_without_judgments_are_compared_and_not_measured():
    run = run_of([1, 2, 3], [3, 2, 1])
    found = compared(run, run, qrels={"q0": {"d0": 1}})
    assert found.queries == found.groups == 2
    assert found.measures["nDCG@10"].first == pytest.approx(mean_of({"q0": run["q0"]}, {"q0": {"d0": 1}}, "nDCG@10"))


@pytest.mark.parametrize(
    ("first", "second", "more", "message"),
    [
        ({"a": {"x": 1.0, "y": 2.0}}, {"b": {"x": 1.0, "y": 2.0}}, {}, "share no query"),
        ({"a": {"x": 1.0}}, {"a": {"x": 1.0}}, {}, "share no query"),
        (run_of([1, 2]), run_of([1, 2]), {"depth": 0}, "1 place or more"),
        (run_of([1, float("nan")]), run_of([1, 2]), {}, "'d1' is not a number"),
    ],
)
def test_bad_runs_are_refused(first, second, more, message):
    with pytest.raises(UsageError, match=message):
        compared(first, second, **more)
