import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorank.errors import UsageError
from lorank.ranking.consensus import from_rankings
from lorank.ranking.consensus.frechet import frechet_mean
from lorank.ranking.consensus.kemeny import kemeny_cost, kemeny_order

LOKI_FRECHET = "loki-frechet"


@given(st.integers(0, 10_000))
def test_the_zero_one_metric_gives_argmax(seed):
    probabilities = np.random.default_rng(seed).dirichlet(np.ones(5), size=7)
    assert (frechet_mean(probabilities, 1 - np.eye(5)) == probabilities.argmax(axis=1)).all()


def test_labels_that_were_never_observed_can_be_predicted_on_a_path():
    distances = np.abs(np.arange(9)[:, None] - np.array([0, 4, 8]))
    for label in range(9):
        near, far = divmod(label, 4)
        probabilities = np.zeros(3)
        probabilities[near] += 1 - far / 4
        if far:
            probabilities[near + 1] += far / 4
        assert frechet_mean(probabilities, distances) == label


@given(st.integers(0, 1000))
def test_kendalls_distance_and_power_one_is_kemeny(seed):
    orders = list(itertools.permutations(range(4)))

    def distance(one, other):
        return sum(
            (one.index(a) < one.index(b)) != (other.index(a) < other.index(b))
            for a, b in itertools.combinations(range(4), 2)
        )

    table = np.array([[distance(one, other) for other in orders] for one in orders])
    probabilities = np.random.default_rng(seed).dirichlet(np.ones(24))
    chosen = np.array(orders[frechet_mean(probabilities, table, power=1)])
    profile = from_rankings([["abcd"[item] for item in order] for order in orders], probabilities)
    preferred = profile.preferences()
    assert kemeny_cost(preferred, chosen) == pytest.approx(kemeny_cost(preferred, kemeny_order(preferred)))


def test_bad_shapes_are_named():
    with pytest.raises(UsageError, match="do not fit"):
        frechet_mean(np.ones(3), np.ones((2, 4)))
    with pytest.raises(UsageError, match="never below 0"):
        frechet_mean(-np.ones(3), np.ones((2, 3)))
