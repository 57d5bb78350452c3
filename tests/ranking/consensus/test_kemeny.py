import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lorank.ranking.consensus import aggregate, from_rankings
from lorank.ranking.consensus.kemeny import kemeny_cost, kemeny_order


def random_preferences(seed, n, most=6):
    table = np.random.default_rng(seed).integers(0, most, (n, n)).astype(float)
    np.fill_diagonal(table, 0)
    return table


def best_cost(preferred):
    return min(kemeny_cost(preferred, np.array(order)) for order in itertools.permutations(range(len(preferred))))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 100_000), st.integers(1, 6))
def test_the_order_is_best_of_all_permutations(seed, n):
    preferred = random_preferences(seed, n)
    order = kemeny_order(preferred)
    assert sorted(order) == list(range(n))
    assert kemeny_cost(preferred, order) == best_cost(preferred)


def test_the_cost_is_the_sum_of_kendall_distances():
    orders = ["abcd", "bdca", "cabd"]
    merged = aggregate(from_rankings(orders), "kemeny").order

    def distance(one, other):
        return sum(
            (one.index(a) < one.index(b)) != (other.index(a) < other.index(b))
            for a, b in itertools.combinations("abcd", 2)
        )

    total = {order: sum(distance(order, ballot) for ballot in orders) for order in itertools.permutations("abcd")}
    assert total[merged] == min(total.values())


def test_local_search_is_never_worse_than_its_start_and_often_best():
    best = 0
    for seed in range(20):
        preferred = random_preferences(seed, 7)
        order = kemeny_order(preferred, exact_up_to=1)
        borda = np.argsort(-(preferred - preferred.T).sum(axis=1), kind="stable")
        assert sorted(order) == list(range(7))
        assert kemeny_cost(preferred, order) <= kemeny_cost(preferred, borda)
        best += kemeny_cost(preferred, order) == best_cost(preferred)
    assert best >= 10


def test_large_cycles_and_long_transitive_orders():
    n = 150
    noisy = np.random.default_rng(0).random((n, n)) + np.triu(np.full((n, n), 0.2), 1)
    np.fill_diagonal(noisy, 0)
    order = kemeny_order(noisy)
    assert kemeny_cost(noisy, order) <= kemeny_cost(noisy, np.arange(n))
    transitive = np.triu(np.ones((400, 400)), 1)
    shuffled = np.random.default_rng(1).permutation(400)
    assert (shuffled[kemeny_order(transitive[np.ix_(shuffled, shuffled)])] == np.arange(400)).all()


def test_a_cycle_is_cut_where_it_is_weakest():
    assert aggregate(from_rankings(["abc", "bca", "cab"], [4, 3, 2]), "kemeny").order == ("a", "b", "c")
