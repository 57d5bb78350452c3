"""What every consensus rule promises, whatever it computes."""

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorank.catalogue import METHODS
from lorank.errors import UsageError
from lorank.ranking.consensus import (
    ALIASES,
    RULES,
    aggregate,
    aggregate_runs,
    from_counts,
    from_duels,
    from_rankings,
    from_table,
    rule_options,
)

NAMES = "abcdef"
BREAKS_TIES = {"kemeny", "robust-consensus"}
HEARS_ORDER = {"openskill"}
NEEDS_SCORES = {"mean", "geometric-mean", "optimality-gap", "score-fusion", "peerrank"}
NEEDS_PEERS = {"peerrank"}
MAY_TIE_THE_UNANIMOUS = {"plurality", "minimax", "nash", "robust-consensus", "optimality-gap"}

EVERY = sorted(set(RULES) - NEEDS_PEERS)
every_rule = pytest.mark.parametrize("method", EVERY)
few = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def tables(draw, complete=False):
    """A table of small scores: ties, and entries missing from all but the first voter."""
    items = NAMES[: draw(st.integers(2, 5))]
    voters = draw(st.integers(1, 5))
    table = {}
    for voter in range(voters):
        scored = items if complete or voter == 0 else draw(st.sets(st.sampled_from(items)))
        table[f"v{voter}"] = {name: draw(st.integers(1, 6)) for name in sorted(scored)}
    return table


def weights_of(table, seed):
    return dict(zip(table, np.random.default_rng(seed).integers(1, 4, len(table)).tolist(), strict=True))


@every_rule
@few
@given(tables())
def test_the_order_is_complete_and_follows_the_scores(method, table):
    merged = aggregate(table, method)
    items = {name for row in table.values() for name in row}
    assert set(merged.order) == set(merged.scores) == items
    assert len(merged.order) == len(items)
    assert all(math.isfinite(score) for score in merged.scores.values())
    assert list(merged.order) == sorted(items, key=lambda name: (merged.scores[name], name), reverse=True)
    assert [len(tier) for tier in merged.tiers] == [
        list(merged.scores.values()).count(score) for score in sorted(set(merged.scores.values()), reverse=True)
    ]
    assert aggregate(table, method) == merged


@pytest.mark.parametrize("method", sorted(set(EVERY) - BREAKS_TIES))
@few
@given(tables(), st.permutations(NAMES))
def test_neutrality_renaming_items_renames_the_scores(method, table, renamed):
    new = dict(zip(NAMES, renamed, strict=True))
    merged = aggregate(table, method)
    other = aggregate(
        {voter: {new[name]: score for name, score in row.items()} for voter, row in table.items()}, method
    )
    assert other.scores == pytest.approx({new[name]: score for name, score in merged.scores.items()}, abs=1e-6)


@pytest.mark.parametrize("method", sorted(BREAKS_TIES))
@few
@given(st.lists(st.permutations("abcd"), min_size=1, max_size=5), st.permutations("abcd"))
def test_where_one_order_is_best_the_tie_breakers_are_neutral_too(method, orders, renamed):
    new = dict(zip("abcd", renamed, strict=True))
    weights = [2**place for place in range(len(orders))]
    merged = aggregate(from_rankings(orders, weights), method, **({"threshold": 0.0} if method != "kemeny" else {}))
    other = aggregate(
        from_rankings([[new[name] for name in order] for order in orders], weights),
        method,
        **({"threshold": 0.0} if method != "kemeny" else {}),
    )
    assert len(merged.tiers) == 4
    margins = from_rankings(orders, weights).preferences()
    if _one_best(margins):
        assert other.order == tuple(new[name] for name in merged.order)


def _one_best(preferred):
    import itertools

    costs = sorted(
        np.tril(preferred[np.ix_(order, order)], -1).sum() for order in itertools.permutations(range(len(preferred)))
    )
    return costs[0] < costs[1]


@pytest.mark.parametrize("method", sorted(set(EVERY) - HEARS_ORDER))
@few
@given(tables(), st.randoms(use_true_random=False))
def test_anonymity_the_order_of_voters_does_not_matter(method, table, random):
    shuffled = list(table.items())
    random.shuffle(shuffled)
    assert aggregate(dict(shuffled), method).scores == pytest.approx(aggregate(table, method).scores, abs=1e-6)


def test_known_failure_openskill_hears_the_order_of_matches():
    ballots = [("a", "b"), ("a", "b"), ("b", "a")]
    first, other = (aggregate(from_rankings(order), "openskill").scores for order in (ballots, ballots[::-1]))
    assert first["a"] != pytest.approx(other["a"])


@every_rule
@few
@given(tables(), st.integers(0, 99))
def test_a_weight_is_that_many_ballots(method, table, seed):
    weights = weights_of(table, seed)
    copies = {f"{voter}-{copy}": row for voter, row in table.items() for copy in range(weights[voter])}
    weighted = aggregate(from_table(table, weights=weights), method)
    assert weighted.scores == pytest.approx(aggregate(copies, method).scores, abs=1e-6)


@every_rule
@few
@given(tables(complete=True))
def test_unanimity_what_all_prefer_is_not_below(method, table):
    for row in table.values():
        row["a"] = row["b"] + 0.5
    merged = aggregate(table, method)
    if method in MAY_TIE_THE_UNANIMOUS:
        assert merged.scores["a"] >= merged.scores["b"]
    else:
        assert merged.scores["a"] > merged.scores["b"]


EVEN = "cdefghijkl"
MANY_EVEN = ["ab" + EVEN, EVEN[::-1] + "ab"]
TIES_OF_THE_UNANIMOUS = {
    "plurality": ["cab"] * 3,
    "minimax": ["cab"] * 3,
    "nash": ["cab"] * 3,
    "robust-consensus": MANY_EVEN,
    "optimality-gap": {"v": {"a": 97, "b": 96}, "w": {"a": 99, "b": 98}},
}


@pytest.mark.parametrize("method", sorted(MAY_TIE_THE_UNANIMOUS))
def test_known_failure_the_unanimous_may_tie(method):
    scores = aggregate(TIES_OF_THE_UNANIMOUS[method], method).scores
    assert scores["a"] == scores["b"]


@pytest.mark.parametrize("method", sorted(set(EVERY) - NEEDS_SCORES))
def test_one_voter_one_item_and_duels(method):
    assert aggregate([["only"]], method).order == ("only",)
    order = aggregate([("b", "a"), ("b", "a"), ("a", "c"), ("b", "c")], method).order
    assert order[0] == "b"
    draws = aggregate([("a", "b", 0.5)], method)
    if method not in BREAKS_TIES:
        assert draws.scores["a"] == pytest.approx(draws.scores["b"], abs=1e-9)


@pytest.mark.parametrize("method", sorted(set(EVERY) - NEEDS_SCORES - {"rank-centrality"}))
def test_an_item_that_nobody_lists_has_a_place(method):
    merged = aggregate(from_rankings(["ab", "ba", "ab"], items="abz"), method)
    assert set(merged.order) == set("abz")
    assert merged.scores["a"] >= merged.scores["b"]


@pytest.mark.parametrize("method", sorted(set(EVERY) - NEEDS_SCORES))
def test_missing_last_puts_what_is_not_listed_below(method):
    merged = aggregate(from_rankings([["a"], ["a", "b"], ["a"]]), method, missing="last")
    assert merged.order[0] == "a"
    assert merged == aggregate([["a", ["b"]], ["a", "b"], ["a", ["b"]]], method)


@pytest.mark.parametrize("method", sorted(NEEDS_SCORES))
def test_score_rules_say_that_they_need_scores(method):
    with pytest.raises(UsageError, match="needs scores"):
        aggregate(["ab"], method)


def test_duels_counts_and_rankings_of_two_are_the_same_profile():
    wins, draws = np.array([[0, 2, 1], [1, 0, 0], [0, 3, 0]]), np.array([[0, 0, 1], [0, 0, 0], [1, 0, 0]])
    counted = from_counts("abc", wins, draws)
    duels = [("a", "b")] * 2 + [("b", "a"), ("a", "c"), ("c", "b"), ("c", "b"), ("c", "b"), ("a", "c", 0.5)]
    rankings = [[["a", "c"]] if len(duel) == 3 else list(duel) for duel in duels]
    for method in sorted(set(EVERY) - NEEDS_SCORES - HEARS_ORDER):
        scores = aggregate(counted, method).scores
        assert aggregate(from_duels(duels), method).scores == pytest.approx(scores)
        assert aggregate(from_rankings(rankings), method).scores == pytest.approx(scores)


def test_runs_are_merged_query_by_query():
    first = {"q": {"a": 3.0, "b": 2.0, "c": 1.0}, "only first": {"x": 1.0}, "empty": {}}
    second = {"q": {"b": 9.0, "d": 1.0}, "empty": {}}
    for method in sorted(set(EVERY)):
        merged = aggregate_runs([first, second], method)
        assert set(merged) == {"q", "only first", "empty"}
        assert set(merged["q"]) == set("abcd")
        assert set(merged["only first"]) == {"x"}
        assert merged["empty"] == {}
    assert aggregate_runs([first], "borda")["q"] == pytest.approx({"a": 2.0, "b": 1.0, "c": 0.0})


def test_names_and_options_are_checked():
    with pytest.raises(UsageError, match="did you mean 'kemeny'"):
        aggregate(["ab"], "kemny")
    with pytest.raises(UsageError, match="option of method 'rrf'.* 'K'"):
        aggregate(["ab"], "rrf", K=3)
    with pytest.raises(UsageError, match="reading of missing items 'first'"):
        aggregate(["ab"], "borda", missing="first")
    for empty in ([], [[]], {}):
        with pytest.raises(UsageError, match="nothing to aggregate"):
            aggregate(empty, "borda")
    with pytest.raises(UsageError, match="no run"):
        aggregate_runs([])
    assert dict(rule_options("newman-bt"))["prior"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("method", "bad"),
    [
        ("rrf", {"k": -1}),
        ("minimax", {"defeat": "x"}),
        ("kemeny", {"exact_up_to": 0}),
        ("pagerank", {"damping": 1}),
        ("rank-centrality", {"regularise": -1}),
        ("bradley-terry", {"prior": -1}),
        ("bradley-terry", {"ties": "x"}),
        ("plackett-luce", {"prior": -1}),
        ("nash", {"game": "x"}),
        ("nash", {"pseudocount": 0}),
        ("robust-consensus", {"threshold": 0.6}),
        ("openskill", {"model": "elo"}),
        ("score-fusion", {"normalise": "x"}),
    ],
)
def test_options_out_of_range_are_refused(method, bad):
    with pytest.raises(UsageError):
        aggregate({"v": {"a": 2, "b": 1}}, method, **bad)


def test_short_names_that_stay_and_catalogue_ids():
    for name in (
        "borda",
        "copeland",
        "kemeny",
        "minimax",
        "baldwin",
        "pagerank",
        "bradley-terry",
        "plackett-luce",
        "openskill",
        "nash",
    ):
        assert name in RULES
    aggregate_ids = {method.id for method in METHODS.values() if method.area == "aggregate"}
    assert {"newman-bt", "nash-averaging", "openskill", "peerrank", "robust-consensus"} <= aggregate_ids
    assert {"newman-bt", "nash-averaging", "openskill", "peerrank", "robust-consensus"} <= {*RULES, *ALIASES}
