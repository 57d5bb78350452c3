"""Reuse of draws: the best number of steps is found, one arm is the fixed number, and old rewards are forgotten."""

import math
import statistics

import pytest
import torch

from lorank.errors import UsageError
from lorank.ranking.policies.reuse import REUSES, make_reuse
from lorank.ranking.policies.reuse.adept import arms_up_to

BANDITS = ("thompson", "ucb")


def play(way, worth, rounds, seed, noise=0.1):
    """The numbers that a way chooses where each of them earns its worth and some noise."""
    generator, chosen = torch.Generator().manual_seed(seed), []
    for _ in range(rounds):
        chosen.append(way.choose(generator))
        way.observe(worth[chosen[-1]] + noise * float(torch.randn((), generator=generator)))
    return chosen


@pytest.mark.parametrize("name", sorted(REUSES))
def test_a_way_chooses_from_1_to_its_most_and_its_memory_goes_on(name):
    way, other = make_reuse(name, 6), make_reuse(name, 6)
    play(way, dict.fromkeys(range(1, 7), 0.5), 12, 0)
    way.choose(torch.Generator().manual_seed(1))  # the reward of this one is still to come
    state = way.state_dict()
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    other.load_state_dict(state)
    worth = {k: 1 / k for k in range(1, 7)}
    for each in (way, other):
        each.observe(0.3)
    again = [play(each, worth, 20, 3) for each in (way, other)]
    assert again[0] == again[1]
    assert all(1 <= k <= 6 for k in again[0])
    assert set(play(make_reuse(name, 1), {1: 0.0}, 5, 0)) == {1}


@pytest.mark.parametrize("name", BANDITS)
@pytest.mark.parametrize("best", [1, 2, 4])
def test_a_bandit_finds_the_planted_number(name, best):
    worth = {k: 0.5 if k == best else 0.2 for k in (1, 2, 4)}
    shares = [play(make_reuse(name, 4), worth, 100, seed)[50:].count(best) / 50 for seed in range(5)]
    assert statistics.median(shares) > 0.6


@pytest.mark.parametrize("name", BANDITS)
def test_one_arm_is_the_fixed_number(name):
    assert play(make_reuse(name, 1), {1: 0.4}, 10, 0) == play(make_reuse("fixed", 1), {1: 0.4}, 10, 0)


@pytest.mark.parametrize("name", BANDITS)
def test_the_scale_of_rewards_does_not_matter(name):
    worth = {1: 0.25, 2: 0.5, 4: 0.375}
    other = {k: 8 * value - 4 for k, value in worth.items()}
    assert play(make_reuse(name, 4), worth, 40, 2, 0.0) == play(make_reuse(name, 4), other, 40, 2, 0.0)


@pytest.mark.parametrize("name", BANDITS)
def test_what_was_best_long_ago_is_forgotten(name):
    way = make_reuse(name, 2, window=5)
    play(way, {1: 0.9, 2: 0.1}, 40, 0, 0.05)
    late = play(way, {1: 0.1, 2: 0.5}, 120, 1, 0.05)
    assert late[80:].count(2) > 25


def test_the_upper_confidence_bound_is_the_one_worked_by_hand():
    way = make_reuse("ucb", 2, c=0.5)
    for earned in (0.2, 0.6):
        way.choose(torch.Generator())
        way.observe(earned)
    sigma = 0.2  # of 0.2 and 0.6
    expected = [mean + 0.5 * sigma * math.sqrt(math.log(2) / 1) for mean in (0.2, 0.6)]
    assert way.scores(torch.Generator()).tolist() == pytest.approx(expected)


def test_without_exploration_the_best_mean_is_taken():
    worth = {1: 0.25, 2: 0.5, 4: 0.375}
    for name in BANDITS:
        assert play(make_reuse(name, 4, c=0.0), worth, 10, 0, 0.0)[3:] == [2] * 7


def test_arms_are_powers_of_two_and_the_most():
    for most in range(1, 20):
        arms = arms_up_to(most)
        assert arms[-1] == most
        assert all(k == most or k & (k - 1) == 0 for k in arms)


@pytest.mark.parametrize("options", [{"c": -1.0}, {"c": float("nan")}, {"window": 0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(UsageError, match="window 1 or above"):
        make_reuse("ucb", 4, **options)


def test_an_unknown_way_names_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'thompson'"):
        make_reuse("thomson", 4)
    with pytest.raises(UsageError, match="updates must be 1"):
        make_reuse("fixed", 0)
