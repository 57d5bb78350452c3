"""Axioms of social choice, rule by rule: what holds is searched for failures, known failures are asserted."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lorank.ranking.consensus import aggregate, from_rankings

elections = st.lists(st.tuples(st.permutations("abcd").map("".join), st.integers(1, 5)), min_size=1, max_size=5)
some = settings(max_examples=40, deadline=None)


def profile(orders, weights):
    return from_rankings([list(order) for order in orders], weights)


def winners(orders, weights, method):
    return set(aggregate(profile(orders, weights), method).tiers[0])


def condorcet_winner(orders, weights):
    ballots = profile(orders, weights)
    preferred = ballots.preferences()
    for i, name in enumerate(ballots.items):
        if all(preferred[i, j] > preferred[j, i] for j in range(len(preferred)) if j != i):
            return name
    return None


def reversed_orders(orders):
    return [order[::-1] for order in orders]


@pytest.mark.parametrize("method", ["copeland", "minimax", "baldwin", "kemeny"])
@some
@given(elections)
def test_condorcet_winners_win(method, ballots):
    orders, weights = zip(*ballots, strict=True)
    winner = condorcet_winner(orders, weights)
    assume(winner is not None)
    assert winners(orders, weights, method) == {winner}


@some
@given(elections)
def test_robust_consensus_keeps_a_condorcet_winner_in_the_first_bucket(ballots):
    orders, weights = zip(*ballots, strict=True)
    winner = condorcet_winner(orders, weights)
    assume(winner is not None)
    assert winner in winners(orders, weights, "robust-consensus")


@some
@given(elections)
def test_nash_puts_all_weight_on_a_condorcet_winner(ballots):
    orders, weights = zip(*ballots, strict=True)
    winner = condorcet_winner(orders, weights)
    assume(winner is not None)
    assert winners(orders, weights, "nash") == {winner}


@pytest.mark.parametrize(("method", "orders", "weights", "condorcet"), [
    ("borda", ["abc", "bca"], [3, 2], "a"),
    ("rrf", ["abc", "bca"], [3, 2], "a"),
    ("winrate", ["abc", "bca"], [3, 2], "a"),
    ("bradley-terry", ["abc", "bca"], [3, 2], "a"),
    ("plackett-luce", ["abc", "bca"], [3, 2], "a"),
    ("rank-centrality", ["abc", "bca"], [3, 2], "a"),
    ("openskill", ["abc", "bca"], [3, 2], "a"),
    ("dowdall", ["cab", "bca"], [3, 4], "b"),
    ("plurality", ["abc", "acb", "bac", "cab"], [3, 2, 2, 5], "a"),
    ("threshold", ["abc", "cab", "bac"], [2, 2, 5], "b"),
    ("pagerank", ["bac", "bca", "cba"], [4, 4, 5], "b"),
])
def test_known_failure_a_condorcet_winner_loses(method, orders, weights, condorcet):
    assert condorcet_winner(orders, weights) == condorcet
    assert winners(orders, weights, method) != {condorcet}


@pytest.mark.parametrize("method", ["borda", "copeland", "winrate", "bradley-terry"])
@some
@given(elections)
def test_reversed_ballots_reverse_the_scores(method, ballots):
    orders, weights = zip(*ballots, strict=True)
    scores = aggregate(profile(orders, weights), method).scores
    turned = aggregate(profile(reversed_orders(orders), weights), method).scores
    total = {name: scores[name] + turned[name] for name in scores}
    assert total == pytest.approx(dict.fromkeys(total, total["a"]), abs=1e-7)


@pytest.mark.parametrize(("method", "orders", "weights"), [
    ("dowdall", ["adbc", "bcda", "adcb", "acbd"], [2, 5, 3, 1]),
    ("plurality", ["acb", "bac", "bca"], [3, 2, 2]),
    ("threshold", ["acb", "abc", "cba", "bac"], [2, 3, 4, 3]),
    ("baldwin", ["cab", "cba", "abc", "bca"], [3, 2, 4, 3]),
    ("minimax", ["abcd", "bcad", "cabd", "dabc", "dbca", "dcab"], [2, 2, 2, 2, 2, 1]),
    ("pagerank", ["bac", "bca", "cba"], [4, 4, 5]),
    ("plackett-luce", ["acb", "bac", "cba", "abc"], [1, 1, 4, 4]),
    ("nash", ["acb", "cba", "cab", "bac"], [3, 5, 1, 5]),
    ("openskill", ["acb", "bac", "cba", "abc"], [1, 1, 4, 4]),
])
def test_known_failure_the_winner_also_wins_the_reversed_election(method, orders, weights):
    first = winners(orders, weights, method)
    assert len(first) == 1
    assert winners(reversed_orders(orders), weights, method) == first


def test_known_failure_minimax_elects_a_condorcet_loser():
    orders, weights = ["abcd", "bcad", "cabd", "dabc", "dbca", "dcab"], [2, 2, 2, 2, 2, 1]
    assert condorcet_winner(reversed_orders(orders), weights) == "d"
    assert winners(orders, weights, "minimax") == {"d"}


@pytest.mark.parametrize(("method", "orders", "weights", "cloned", "clones"), [
    ("borda", ["abc", "cab"], [1, 3], ["abxc", "caxb"], "bx"),
    ("winrate", ["abc", "cab"], [1, 3], ["abxc", "caxb"], "bx"),
    ("bradley-terry", ["abc", "cab"], [1, 3], ["abxc", "caxb"], "bx"),
    ("dowdall", ["acb", "abc", "cba", "bac"], [2, 3, 4, 3], ["xacb", "axbc", "cbax", "bxac"], "ax"),
    ("plurality", ["acb", "abc", "cba", "bac"], [2, 3, 4, 3], ["xacb", "axbc", "cbax", "bxac"], "ax"),
    ("rrf", ["acb", "abc", "cba", "bac"], [2, 3, 4, 3], ["xacb", "axbc", "cbax", "bxac"], "ax"),
    ("plackett-luce", ["acb", "abc", "cba", "bac"], [2, 3, 4, 3], ["xacb", "axbc", "cbax", "bxac"], "ax"),
    ("threshold", ["abc", "cab", "bac"], [2, 2, 5], ["axbc", "cabx", "xbac"], "ax"),
    ("baldwin", ["acdb", "cdba", "acbd", "bdac"], [1, 5, 3, 2], ["acxdb", "cxdba", "acxbd", "bdaxc"], "cx"),
    ("copeland", ["bca", "acb", "cba", "bac"], [1, 5, 1, 3], ["bxca", "acbx", "cbxa", "xbac"], "bx"),
    ("kemeny", ["abcd", "dacb", "dabc", "cdba"], [5, 2, 3, 4], ["abcxd", "daxcb", "dabxc", "cxdba"], "cx"),
    ("robust-consensus", ["abcd", "dacb", "dabc", "cdba"], [5, 2, 3, 4], ["abcxd", "daxcb", "dabxc", "cxdba"], "cx"),
    ("pagerank", ["bac", "bca", "cba"], [4, 4, 5], ["baxc", "bxca", "cxba"], "cx"),
    ("minimax", ["ad", "da"], [6, 5], ["abcd", "bcad", "cabd", "dabc", "dbca", "dcab"], "abc"),
])
def test_known_failure_clones_change_the_winner(method, orders, weights, cloned, clones):
    more = weights if len(cloned) == len(weights) else [2, 2, 2, 2, 2, 1]
    before, after = winners(orders, weights, method), winners(cloned, more, method)
    assert len(before) == 1
    assert after - (set(clones) if before & set(clones) else before)


def with_a_twin(orders, weights, copied):
    return from_rankings([[[name, "x"] if name == copied else name for name in order] for order in orders], weights)


@some
@given(elections, st.sampled_from("abcd"))
def test_nash_ratings_do_not_see_copies_where_no_pair_is_even(ballots, copied):
    orders, weights = zip(*ballots, strict=True)
    assume(sum(weights) % 2)
    before = aggregate(profile(orders, weights), "nash").scores
    after = aggregate(with_a_twin(orders, weights, copied), "nash").scores
    assert {name: after[name] for name in before} == pytest.approx(before, abs=1e-6)
    assert after["x"] == pytest.approx(before[copied], abs=1e-6)


def test_known_failure_among_many_equilibria_the_largest_entropy_sees_copies():
    orders, weights = ["acbd", "bacd"], [2, 2]
    before = aggregate(profile(orders, weights), "nash").scores
    after = aggregate(with_a_twin(orders, weights, "a"), "nash").scores
    assert after["c"] != pytest.approx(before["c"], abs=0.1)
