"""rewards-in-context: the closed form of its targets against a search, and what is near a front."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from lorank.errors import UsageError
from lorank.ranking.preferences.rewards_in_context import RewardScale, condition_prompt, near_front

UNIT = RewardScale((0.0,) * 3, (1.0,) * 3, (0.0,) * 3, (1.0,) * 3)


@pytest.mark.parametrize("p", [1.5, 2.0, 4.0])
def test_targets_are_what_a_search_over_the_ball_finds(p):
    weights = np.array([0.5, 0.2, 0.3])
    found = minimize(
        lambda z: -weights @ z,
        np.full(3, 0.3),
        bounds=[(0, 1)] * 3,
        method="SLSQP",
        constraints={"type": "ineq", "fun": lambda z: 1 - (z**p).sum()},
        options={"ftol": 1e-12},
    )
    np.testing.assert_allclose(UNIT.targets(weights, p), found.x, atol=1e-4)


def test_targets_in_the_limits_of_the_norm():
    np.testing.assert_allclose(UNIT.targets([0.5, 0.3, 0.2], 1.001), [1, 0, 0], atol=1e-3)
    np.testing.assert_allclose(UNIT.targets([0.5, 0.3, 0.2], 1e6), [1, 1, 1], atol=1e-4)
    np.testing.assert_allclose(UNIT.targets([0, 0, 7]), [0, 0, 1])


def test_a_single_reward_is_asked_for_at_its_highest():
    scale = RewardScale.fit(np.arange(11.0).reshape(-1, 1), outer=0.1)
    assert scale.targets([0.3]) == pytest.approx(scale.high)
    assert scale.high[0] * scale.deviation[0] + scale.mean[0] == pytest.approx(9.0)


@given(st.lists(st.floats(0.01, 1.0), min_size=3, max_size=3), st.integers(0, 2), st.floats(1.2, 5.0))
def test_more_weight_never_asks_for_less(weights, place, p):
    heavier = list(weights)
    heavier[place] *= 2
    less, more = UNIT.targets(weights, p), UNIT.targets(heavier, p)
    assert more[place] >= less[place] - 1e-12
    assert all(more[i] <= less[i] + 1e-12 for i in range(3) if i != place)
    assert (more**p).sum() == pytest.approx(1.0)


def test_rewards_are_standardised_each_by_its_own():
    rewards = np.array([[1.0, 10.0], [3.0, 10.0], [2.0, 40.0]])
    scaled = RewardScale.fit(rewards).standardise(rewards)
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(scaled.std(0), 1)


def test_what_is_near_the_front_against_the_definition():
    rewards = np.random.default_rng(0).normal(size=(40, 3))
    for slack in (0.0, 0.4):
        beaten = [any(all(other[k] > own[k] + slack for k in range(3)) for other in rewards) for own in rewards]
        assert near_front(rewards, slack).tolist() == [not each for each in beaten]
    assert near_front(np.array([[1.0], [3.0], [2.9]]), slack=0.2).tolist() == [False, True, True]


def test_zero_has_no_sign_in_a_prompt():
    assert condition_prompt("p", [-0.01, -1.26, 3]) == "p <R1> 0.0 <R2> -1.3 <R3> 3.0"


def test_wrong_use_is_refused():
    for bad in ([1.0, 2.0], [0.0, 0.0, 0.0], [1.0, -1.0, 1.0]):
        with pytest.raises(UsageError, match="3 weights"):
            UNIT.targets(bad)
    with pytest.raises(UsageError, match="p above 1"):
        UNIT.targets([1, 1, 1], p=1.0)
    with pytest.raises(UsageError, match="reward 2 is the same"):
        RewardScale.fit(np.array([[0.0, 1.0], [2.0, 1.0]]))
    with pytest.raises(UsageError, match="finite"):
        RewardScale.fit(np.array([[0.0, np.nan]]))
