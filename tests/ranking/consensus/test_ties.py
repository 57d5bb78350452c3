"""Ties are between two scores, whatever else there is: neither a large score nor a heavy ballot makes others equal."""

import numpy as np
import pytest

from lorank.ranking.consensus import aggregate, aggregate_runs
from lorank.ranking.consensus.profile import from_rankings
from lorank.ranking.consensus.rules import RULES, consensus


@pytest.mark.parametrize("largest", [1e3, 1e9, 1e12, 1e15, 1e300])
def test_half_stays_below_one_beside_a_large_score(largest):
    scores = consensus(["a", "b", "c", "d"], np.array([largest, 1.0, 0.5, -largest]))
    assert scores.order == ("a", "b", "c", "d")
    assert len(scores.tiers) == 4


@pytest.mark.parametrize("largest", [1e10, 1e12])
@pytest.mark.parametrize("method", ["mean", "geometric-mean"])
def test_runs_with_one_huge_score_keep_the_order_of_the_others(method, largest):
    run = {"q": {"z": 0.5, "m": 1.0, "a": largest}}
    merged = aggregate_runs([run, run], method)["q"]
    assert merged["a"] > merged["m"] > merged["z"]


def test_sums_taken_in_another_order_are_ties():
    assert consensus(["a", "b"], np.array([0.1 + 0.2, 0.3])).tiers == (("a", "b"),)
    tiny = consensus(["a", "b", "c"], np.array([(0.1 + 0.2) * 1e-200, 0.3e-200, 0.4e-200]))
    assert tiny.tiers == (("c",), ("a", "b"))


ORDINAL = ["borda", "copeland", "kemeny", "minimax", "baldwin", "dowdall", "plurality", "rrf", "robust-consensus"]


@pytest.mark.parametrize("method", ORDINAL)
@pytest.mark.parametrize("scale", [1e-15, 1e-9, 1e9, 1e15])
def test_the_scale_of_the_weights_does_not_matter(method, scale):
    assert method in RULES
    orders, weights = ["abcd", "bacd", "acdb", "dabc"], np.array([4.0, 3.0, 2.5, 1.25])
    plain = aggregate(from_rankings(orders, weights), method)
    assert aggregate(from_rankings(orders, scale * weights), method).tiers == plain.tiers


@pytest.mark.parametrize("method", ["copeland", "kemeny", "minimax", "baldwin", "borda"])
def test_light_ballots_decide_where_the_heavy_ones_are_silent(method):
    profile = from_rankings([["x", "y"], ["m", "z"], ["z", "m"], ["m", "z"]], [1e12, 1.0, 0.5, 0.25])
    scores = aggregate(profile, method).scores
    assert scores["m"] > scores["z"]
