import itertools

import numpy as np
import pytest

from lorank.errors import UsageError
from lorank.ranking.consensus import aggregate, from_rankings
from lorank.ranking.consensus.robust import breakdown, kemeny_breakdown

ROBUST = "robust-consensus"
NEAR_TIE = from_rankings(["abc", "bac"], [6, 5])


def test_near_ties_become_one_bucket_and_clear_orders_stay():
    assert aggregate(NEAR_TIE, ROBUST, threshold=0.1).tiers == (("a", "b"), ("c",))
    assert aggregate(NEAR_TIE, ROBUST, threshold=0.0).tiers == (("a",), ("b",), ("c",))
    clear = from_rankings(["abcd", "abdc", "bacd", "abcd"], [5, 1, 1, 5])
    assert aggregate(clear, ROBUST).order == aggregate(clear, "kemeny").order
    assert len(aggregate(clear, ROBUST).tiers) == 4


def test_the_closest_neighbours_merge_first_by_their_mean_share():
    # a over b by 52 of 100, b over c by 54, a over c by all: merging {a, b} first leaves c at (0.54 + 1) / 2.
    profile = from_rankings(["abc", "bac", "acb"], [6, 48, 46])
    assert aggregate(profile, ROBUST, threshold=0.05).tiers == (("a", "b"), ("c",))


def test_kemeny_breaks_down_where_half_the_lead_is_replaced():
    # a leads b by 6 to 5: half a ballot in 11 makes them even. To reverse all three pairs c must pass a and b too.
    assert kemeny_breakdown(NEAR_TIE, 1.0) == pytest.approx(0.5 / 11)
    assert kemeny_breakdown(NEAR_TIE, 3.0) == pytest.approx(0.5)
    assert kemeny_breakdown(from_rankings(["abcd"]), 1.0) == pytest.approx(0.5)
    assert kemeny_breakdown(NEAR_TIE, 4.0) == np.inf


@pytest.mark.parametrize("weights", [(6, 5, 0), (5, 3, 1), (4, 2, 3)])
@pytest.mark.parametrize("distance", [1, 2, 3])
def test_the_linear_program_agrees_with_enumeration(weights, distance):
    profile = from_rankings(["abc", "bac", "cab"], weights)
    exact, counted = kemeny_breakdown(profile, distance), breakdown(profile, distance, "kemeny")
    assert exact <= counted + 1e-9
    assert counted <= exact + 1 / sum(weights) + 1e-9


@pytest.mark.parametrize("distance", [0.5, 1, 1.5, 2])
@pytest.mark.parametrize("weights", [(6, 5), (5, 4), (3, 3)])
def test_the_merged_order_breaks_down_no_sooner_than_kemenys_at_a_near_tie(weights, distance):
    profile = from_rankings(["abc", "bac"], weights)
    if distance >= 1:
        merged = breakdown(profile, distance, ROBUST, threshold=0.1)
        assert merged >= breakdown(profile, distance, "kemeny")
    assert breakdown(profile, 1, ROBUST, threshold=0.1) > breakdown(profile, 1, "kemeny")


def all_profiles(voters):
    """Every profile of so many ballots over the six orders of three items, and its two consensus orders' signs."""
    orders = ["".join(order) for order in itertools.permutations("abc")]
    counts = [each for each in itertools.product(range(voters + 1), repeat=6) if sum(each) == voters]
    signs = {ROBUST: [], "kemeny": []}
    near = []
    for each in counts:
        profile = from_rankings(orders, [float(count) for count in each], items="abc")
        for method, options in ((ROBUST, {"threshold": 0.1}), ("kemeny", {})):
            scores = aggregate(profile, method, **options).scores
            values = np.array([scores[item] for item in "abc"])
            signs[method].append(np.sign(values[:, None] - values[None]).ravel())
        share = profile.preferences() / voters
        near.append(np.abs(share[np.triu_indices(3, 1)] - 0.5).min() <= 0.1 + 1e-9)
    return np.array(counts), {method: np.array(rows) for method, rows in signs.items()}, np.array(near)


def test_where_merging_breaks_down_later_than_kemeny_and_where_not_over_all_profiles():
    counts, signs, near = all_profiles(5)
    replaced = np.maximum(counts[None] - counts[:, None], 0).sum(2)
    ballots = {
        (method, distance): np.where(
            np.abs(rows[:, None] - rows[None]).sum(2) / 4 >= distance, replaced, counts.sum()
        ).min(1)
        for method, rows in signs.items()
        for distance in (1, 2, 3)
    }
    for distance in (1, 2, 3):
        short = ballots["kemeny", distance] - ballots[ROBUST, distance]
        assert short.max() <= 1, "never by more than one ballot"
    assert near.any()
    assert (ballots[ROBUST, 3] >= ballots["kemeny", 3]).all()
    assert (ballots[ROBUST, 3] > ballots["kemeny", 3])[near].all()
    better, worse = (ballots[ROBUST, 1] > ballots["kemeny", 1])[near], (ballots[ROBUST, 1] < ballots["kemeny", 1])[near]
    assert better.sum() > 2 * worse.sum()


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        (from_rankings([["a", ["b", "c"]]]), "without ties"),
        (from_rankings(["ab", "abc"]), "complete orders"),
        (from_rankings(["abcdef"]), "6 items"),
        (from_rankings(["a"]), "1 items"),
        (from_rankings(["abc"], weights=[0.5]), "whole numbers"),
        (from_rankings(["abc"], weights=[500]), "too many profiles"),
    ],
)
def test_what_breakdown_cannot_take_is_said(profile, message):
    with pytest.raises(UsageError, match=message):
        breakdown(profile, 1)
