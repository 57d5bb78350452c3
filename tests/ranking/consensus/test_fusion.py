import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorank.errors import UsageError
from lorank.ranking.consensus.fusion import (
    NORMALISATIONS,
    fuse,
    ranks,
    reciprocal_rank_fusion,
    standardise,
    standardise_run,
    to_unit_interval,
    tune_weights,
    weight_grid,
)

FIRST = {"q": {"a": 9.0, "b": 5.0, "c": 1.0}, "only first": {"a": 1.0, "b": 0.0}}
SECOND = {"q": {"c": 0.9, "d": 0.4, "a": 0.1}}

scores = st.lists(st.integers(-1000, 1000), min_size=1, max_size=20)
runs = st.dictionaries(
    st.sampled_from(["q1", "q2"]),
    st.dictionaries(st.sampled_from("abcdef"), st.integers(-50, 50).map(float), min_size=1),
    min_size=1,
)


def order(row):
    return sorted(row, key=lambda document: (row[document], document), reverse=True)


@given(scores)
def test_standardised_scores_have_mean_0_and_deviation_1(values):
    out = standardise(np.array(values))
    if len(set(values)) == 1:
        assert (out == 0).all()
    else:
        assert out.mean() == pytest.approx(0, abs=1e-12)
        assert out.std() == pytest.approx(1)


@pytest.mark.parametrize("function", [standardise, to_unit_interval])
def test_short_constant_and_huge_lists(function):
    assert function(np.array([])).tolist() == []
    assert function(np.array([3.5])).tolist() == [0.0]
    assert function(np.full(3, 0.1)).tolist() == [0.0] * 3
    assert np.isfinite(function(np.array([1e300, -1e300, 0.0]))).all()


@given(scores, st.floats(0.01, 100), st.integers(-1000, 1000))
def test_both_scales_ignore_unit_and_origin(values, unit, origin):
    values = np.array(values, float)
    for function in (standardise, to_unit_interval):
        assert function(unit * values + origin) == pytest.approx(function(values), abs=1e-6)


@given(runs, runs, st.floats(0.01, 100), st.integers(-100, 100), st.sampled_from(["z", "minmax"]))
def test_fusion_does_not_see_the_scale_of_a_run(first, second, unit, origin, normalise):
    moved = {query: {d: unit * s + origin for d, s in row.items()} for query, row in first.items()}
    expected = fuse([first, second], [0.3, 0.7], normalise)
    for query, row in fuse([moved, second], [0.3, 0.7], normalise).items():
        assert row == pytest.approx(expected[query], abs=1e-6)


@given(runs, runs, st.sampled_from(sorted(NORMALISATIONS)))
def test_all_weight_on_one_run_keeps_its_order(first, second, normalise):
    for query, row in fuse([first, second], [1.0, 0.0], normalise).items():
        assert set(row) == set(first.get(query, {})) | set(second.get(query, {}))
        if query in first:
            assert order({d: row[d] for d in first[query]}) == order(first[query])
            lowest = min(row[d] for d in first[query])
            assert all(row[d] == lowest for d in row if d not in first[query])


@given(runs, runs, st.sampled_from(sorted(NORMALISATIONS)))
def test_the_order_of_runs_does_not_matter(first, second, normalise):
    one, other = fuse([first, second], [0.2, 0.8], normalise), fuse([second, first], [0.8, 0.2], normalise)
    assert one.keys() == other.keys()
    for query in one:
        assert one[query] == pytest.approx(other[query], abs=1e-12)


def test_the_sum_by_hand():
    assert fuse([FIRST, SECOND], [0.25, 0.75], "minmax") == {
        "q": {
            "a": pytest.approx(0.25 * 1),
            "b": pytest.approx(0.25 * 0.5),
            "c": pytest.approx(0.75 * 1),
            "d": pytest.approx(0.75 * 0.3 / 0.8),
        },
        "only first": pytest.approx({"a": 0.25, "b": 0.0}),
    }
    assert fuse([FIRST, SECOND], [0.25, 0.75], "rank")["q"] == {
        "a": pytest.approx(0.25 * 1 + 0.75 / 3),
        "b": pytest.approx(0.25 * 2 / 3 + 0.75 / 3),
        "c": pytest.approx(0.25 / 3 + 0.75 * 1),
        "d": pytest.approx(0.25 / 3 + 0.75 * 2 / 3),
    }
    half = np.sqrt(1.5)
    assert standardise_run(FIRST)["q"] == pytest.approx({"a": half, "b": 0.0, "c": -half})


def test_empty_lists_say_nothing():
    assert fuse([{"q": {}}, {"q": {"a": 2.0, "b": 1.0}}], [0.5, 0.5]) == {"q": pytest.approx({"a": 0.5, "b": -0.5})}
    assert fuse([{"q": {}}, {"q": {}}], [0.5, 0.5]) == {"q": {}}


def test_reciprocal_ranks_by_hand():
    assert reciprocal_rank_fusion([FIRST, SECOND]) == {
        "q": {
            "a": pytest.approx(1 / 61 + 1 / 63),
            "b": pytest.approx(1 / 62),
            "c": pytest.approx(1 / 63 + 1 / 61),
            "d": pytest.approx(1 / 62),
        },
        "only first": {"a": pytest.approx(1 / 61), "b": pytest.approx(1 / 62)},
    }


def test_ranks_break_ties_as_trec_eval_does():
    assert ranks({"x": 1.0, "z": 1.0, "y": 1.0}) == {"z": 1, "y": 2, "x": 3}


@pytest.mark.parametrize(("count", "steps", "size"), [(1, 20, 1), (2, 20, 21), (3, 20, 231), (3, 1, 3)])
def test_the_grid_is_the_whole_simplex(count, steps, size):
    grid = weight_grid(count, steps)
    assert grid.shape == (size, count)
    assert len(np.unique(grid, axis=0)) == size
    assert grid.sum(axis=1) == pytest.approx(np.ones(size))
    assert all((grid == corner).all(axis=1).any() for corner in np.eye(count))


def first_place(wanted):
    return lambda run: float(np.mean([order(run[query])[0] == document for query, document in wanted.items()]))


def test_tuning_finds_the_run_that_is_right():
    wrong = {f"q{i}": {"a good": 0.0, "bad": 1.0} for i in range(4)}
    right = {f"q{i}": {"a good": 1.0, "bad": 0.0} for i in range(4)}
    measure = first_place({f"q{i}": "a good" for i in range(4)})
    weights = tune_weights([wrong, right], measure)
    assert measure(fuse([wrong, right], weights)) == pytest.approx(1.0)
    assert weights[1] > weights[0]


@given(st.lists(runs, min_size=1, max_size=3), st.integers(1, 6))
def test_tuned_weights_are_never_worse_than_any_on_the_grid(given_runs, steps):
    def measure(run):
        return float(np.mean([order(row)[0] == "a" for row in run.values()]))

    weights = tune_weights(given_runs, measure, steps=steps)
    assert weights.sum() == pytest.approx(1)
    best = max(measure(fuse(given_runs, other)) for other in weight_grid(len(given_runs), steps))
    assert measure(fuse(given_runs, weights)) == best


def test_weights_that_measure_the_same_are_as_even_as_can_be():
    assert tune_weights([FIRST, SECOND], lambda run: 1.0).tolist() == pytest.approx([0.5, 0.5])


def test_bad_input_is_named():
    with pytest.raises(UsageError, match="no run to fuse"):
        fuse([], [])
    with pytest.raises(UsageError, match="do not fit 2 runs"):
        fuse([FIRST, SECOND], [1.0])
    with pytest.raises(UsageError, match="do not fit 1 runs"):
        fuse([FIRST], [float("nan")])
    with pytest.raises(UsageError, match="unknown normalisation 'zz'"):
        fuse([FIRST], [1.0], "zz")
    for normalise in NORMALISATIONS:
        with pytest.raises(UsageError, match="NaN or infinite"):
            fuse([{"q": {"a": float("nan"), "b": 1.0}}], [1.0], normalise)
    with pytest.raises(UsageError, match="the measure is NaN"):
        tune_weights([FIRST], lambda run: float("nan"))
    with pytest.raises(UsageError, match="steps is 0"):
        tune_weights([FIRST], lambda run: 1.0, steps=0)
    with pytest.raises(UsageError, match="no run to fuse"):
        tune_weights([], lambda run: 1.0)
    with pytest.raises(UsageError, match="k from 0 up"):
        reciprocal_rank_fusion([FIRST], k=-1)
