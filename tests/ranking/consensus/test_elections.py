"""Elections worked by hand."""

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorank.ranking.consensus import aggregate, from_rankings, from_table
from lorank.ranking.consensus.fusion import fuse, reciprocal_rank_fusion

# Tennessee chooses its capital: the share of voters near each city, and their orders by distance.
TENNESSEE = from_rankings(
    [
        ["Memphis", "Nashville", "Chattanooga", "Knoxville"],
        ["Nashville", "Chattanooga", "Knoxville", "Memphis"],
        ["Chattanooga", "Knoxville", "Nashville", "Memphis"],
        ["Knoxville", "Chattanooga", "Nashville", "Memphis"],
    ],
    weights=[42, 26, 15, 17],
)
M, N, C, K = "Memphis", "Nashville", "Chattanooga", "Knoxville"


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("plurality", {M: 42, N: 26, C: 15, K: 17}),
        ("borda", {M: 3 * 42, N: 2 * 42 + 3 * 26 + 15 + 17, C: 42 + 2 * 26 + 3 * 15 + 2 * 17, K: 26 + 2 * 15 + 3 * 17}),
        (
            "dowdall",
            {
                M: 42 + 58 / 4,
                N: 42 / 2 + 26 + 32 / 3,
                C: 42 / 3 + 26 / 2 + 15 + 17 / 2,
                K: 42 / 4 + 26 / 3 + 15 / 2 + 17,
            },
        ),
        ("copeland", {M: 0, N: 3, C: 2, K: 1}),
        ("minimax", {M: -(58 - 42), N: 58 - 42, C: -(68 - 32), K: -(83 - 17)}),
        ("winrate", {M: 0.42, N: (0.58 + 0.68 + 0.68) / 3, C: (0.58 + 0.32 + 0.83) / 3, K: (0.58 + 0.32 + 0.17) / 3}),
        ("kemeny", {N: 3, C: 2, K: 1, M: 0}),
        ("baldwin", {K: 0, M: 1, C: 2, N: 3}),
        (
            "rrf",
            {
                M: 42 / 61 + 58 / 64,
                N: 42 / 62 + 26 / 61 + 32 / 63,
                C: 42 / 63 + 26 / 62 + 15 / 61 + 17 / 62,
                K: 42 / 64 + 26 / 63 + 15 / 62 + 17 / 61,
            },
        ),
        ("threshold", {M: 0, K: 1, N: 3, C: 2}),
        ("nash", {N: 0.0, M: np.log(42.5 / 58.5), C: np.log(32.5 / 68.5), K: np.log(32.5 / 68.5)}),
    ],
)
def test_tennessee(method, expected):
    assert aggregate(TENNESSEE, method).scores == pytest.approx(expected)


def test_winning_votes_of_minimax():
    scores = aggregate(TENNESSEE, "minimax", defeat="winning-votes").scores
    assert scores == {M: -58, N: 0, C: -68, K: -83}


def test_ties_share_the_points_of_their_places():
    ballot = from_rankings([["a", ["b", "c"], "d"]])
    assert aggregate(ballot, "borda").scores == pytest.approx({"a": 3, "b": 1.5, "c": 1.5, "d": 0})
    assert aggregate(ballot, "dowdall").scores == pytest.approx(
        {"a": 1, "b": (1 / 2 + 1 / 3) / 2, "c": (1 / 2 + 1 / 3) / 2, "d": 1 / 4}
    )
    assert aggregate(from_rankings([[["a", "b"], "c"]]), "plurality").scores == pytest.approx(
        {"a": 0.5, "b": 0.5, "c": 0}
    )


def test_a_ballot_gives_no_points_to_what_it_does_not_list():
    assert aggregate([["a", "b"], ["c"]], "borda").scores == {"a": 1, "b": 0, "c": 0}
    assert aggregate([["a", "b"], ["c"]], "borda", missing="last").scores == pytest.approx({"a": 2.5, "b": 1.5, "c": 2})


def test_threshold_by_hand():
    scores = aggregate(["abc", "abc", "cab"], "threshold").scores
    assert scores == {"a": 2, "b": 1, "c": 0}
    assert aggregate(["abc", "cba"], "threshold").tiers == (("b",), ("a", "c"))


@given(st.lists(st.permutations("abcde"), min_size=1, max_size=7))
def test_dowdall_against_exact_fractions(orders):
    exact = Counter()
    for order in orders:
        for place, name in enumerate(order, 1):
            exact[name] += Fraction(1, place)
    merged = aggregate(orders, "dowdall")
    tiers = {}
    for name, points in exact.items():
        tiers.setdefault(points, []).append(name)
    assert merged.tiers == tuple(tuple(sorted(tiers[points])) for points in sorted(tiers, reverse=True))


RUNS = [{"q": {"a": 9.0, "b": 5.0, "c": 1.0}}, {"q": {"c": 0.9, "d": 0.4, "a": 0.1}}]


def test_rank_and_score_fusion_are_those_of_runs():
    table = from_table({"first": RUNS[0]["q"], "second": RUNS[1]["q"]}, weights={"second": 2.0})
    plain = from_table({"first": RUNS[0]["q"], "second": RUNS[1]["q"]})
    assert aggregate(plain, "rrf").scores == pytest.approx(reciprocal_rank_fusion(RUNS)["q"])
    for normalise in ("z", "minmax", "rank"):
        assert aggregate(table, "score-fusion", normalise=normalise).scores == pytest.approx(
            fuse(RUNS, [1.0, 2.0], normalise)["q"]
        )


def test_means_of_scores_by_hand():
    table = from_table({"t": {"x": 90.0, "y": 40.0}, "u": {"x": 10.0}}, weights={"u": 3.0}, items="xyz")
    assert aggregate(table, "mean").scores == pytest.approx({"x": 30.0, "y": 40.0, "z": 29.0})
    assert aggregate(table, "geometric-mean").scores["x"] == pytest.approx((90 * 10**3) ** 0.25)
    assert aggregate(table, "optimality-gap", gamma=50.0).scores == pytest.approx({"x": -30, "y": -10, "z": -31})
