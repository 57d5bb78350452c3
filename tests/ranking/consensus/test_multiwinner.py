"""Multiwinner rules with bounds: exact where scores are additive, bounds always met, and a planted bias undone."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorank.catalogue import METHODS
from lorank.errors import UsageError
from lorank.ranking.consensus import from_rankings
from lorank.ranking.consensus.multiwinner import SCORES, select, set_score

GROUPS = dict(zip("abcdef", [0, 0, 0, 1, 1, 1], strict=True))
every_score = pytest.mark.parametrize("method", sorted(SCORES))
votes = st.lists(st.permutations("abcdef"), min_size=1, max_size=6)


def best_by_enumeration(profile, count, method, bound):
    return max(
        set_score(profile, chosen, method)
        for chosen in itertools.combinations("abcdef", count)
        if sum(GROUPS[name] for name in chosen) >= bound
    )


@every_score
@settings(max_examples=25, deadline=None)
@given(votes, st.integers(1, 6), st.integers(0, 3))
def test_bounds_are_met_and_the_score_is_the_best_or_within_the_bound(method, orders, count, bound):
    profile = from_rankings(orders)
    bound = min(bound, count)
    found = select(profile, count, method, group_of=GROUPS, at_least={1: bound})
    assert len(set(found.items)) == count
    assert sum(GROUPS[name] for name in found.items) >= bound
    assert found.score == pytest.approx(set_score(profile, found.items, method))
    best = best_by_enumeration(profile, count, method, bound)
    share = 1.0 if method != "chamberlin-courant" else 0.5 if bound else 1 - 1 / math.e
    assert share * best - 1e-9 <= found.score <= best + 1e-9


def test_by_hand():
    profile = from_rankings(["abcd", "abcd", "cdab"], [2, 1, 2])
    assert select(profile, 1, "sntv").items == ("a",)
    assert select(profile, 2, "bloc").items == ("a", "b")
    assert select(profile, 2, "chamberlin-courant").items == ("a", "c")
    assert select(profile, 2, "chamberlin-courant").score == 3 * 3 + 2 * 3
    assert set_score(profile, ("a", "b"), "borda") == 3 * (3 + 2) + 2 * (1 + 0)


@every_score
def test_without_bias_bounds_that_are_met_anyway_change_nothing(method):
    rng = np.random.default_rng(0)
    for _ in range(20):
        profile = from_rankings([list(rng.permutation(list("abcdef"))) for _ in range(7)])
        free = select(profile, 3, method)
        held = sum(GROUPS[name] for name in free.items)
        assert select(profile, 3, method, group_of=GROUPS, at_least={0: 3 - held, 1: held}).items == free.items


@pytest.mark.parametrize(("method", "bias"), [("borda", 0.5), ("chamberlin-courant", 0.5), ("sntv", 0.5)])
def test_under_a_planted_bias_bounds_raise_the_score_without_it(method, bias):
    rng = np.random.default_rng(1)
    names = [f"i{i:02d}" for i in range(20)]
    group = {name: int(i >= 10) for i, name in enumerate(names)}
    gains = []
    for _ in range(30):
        worth = rng.uniform(0, 1, 20)
        seen = worth + rng.normal(0, 0.05, (25, 20))
        biased = np.where(np.arange(20) >= 10, bias, 1.0) * seen
        honest, said = (
            from_rankings([[names[i] for i in np.argsort(-row)] for row in table]) for table in (seen, biased)
        )
        free = select(said, 6, method)
        bound = select(said, 6, method, group_of=group, at_least={0: 3, 1: 3})
        gains.append(set_score(honest, bound.items, method) - set_score(honest, free.items, method))
    assert np.mean(gains) > 0
    assert np.mean(np.array(gains) >= 0) > 0.7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "0 of 6 items"),
        ({"count": 9}, "9 of 6 items"),
        ({"method": "stv"}, "unknown multiwinner score"),
        ({"at_least": {1: 4}, "count": 5}, "group 1 has 3 items"),
        ({"at_least": {0: 2, 1: 2}}, "ask for 4 items"),
        ({"at_least": {"x": 1}}, "group 'x' has 0 items"),
    ],
)
def test_wrong_use_is_told(options, message):
    profile = from_rankings(["abcdef"])
    with pytest.raises(UsageError, match=message):
        select(profile, **{"count": 3, "group_of": GROUPS, **options})
    assert METHODS["multiwinner-subset-bias"].area == "fair"
