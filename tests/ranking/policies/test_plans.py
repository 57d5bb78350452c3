"""Sampling plans: the greedy allocation against dynamic programming, exact totals, the entropy's band, elimination."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorank.ranking.policies.advantages import Replies, compute_advantages
from lorank.ranking.policies.plans import make_plan
from lorank.ranking.policies.plans.e3 import EntropyTemperature, allocate_by_difficulty
from lorank.ranking.policies.plans.knapsack import allocate, rollout_value
from lorank.ranking.policies.plans.success import SuccessRates

RATES = st.lists(st.floats(0.01, 0.99), min_size=1, max_size=4)


def best_by_dynamic_programming(rates, budget, most):
    """The largest total value of ``budget`` replies, each prompt from 1 to ``most``."""
    table = {0: 0.0}
    for rate in rates:
        grown = {}
        for spent, value in table.items():
            for count in range(1, most + 1):
                total = value + rollout_value(count, rate)
                grown[spent + count] = max(grown.get(spent + count, -math.inf), total)
        table = grown
    return table[budget]


@given(RATES, st.integers(0, 12))
@settings(max_examples=60, deadline=None)
def test_greedy_allocation_is_the_optimum_of_dynamic_programming(rates, extra):
    budget = len(rates) + min(extra, 7 * len(rates))
    counts = allocate(rates, budget, 8)
    assert sum(counts) == budget
    assert 1 <= min(counts) <= max(counts) <= 8
    value = sum(rollout_value(count, rate) for count, rate in zip(counts, rates))
    assert value == pytest.approx(best_by_dynamic_programming(rates, budget, 8), abs=1e-12)


@pytest.mark.parametrize("rates", [[0.5, 0.1, 0.9], [0.05, 0.3, 0.31]])
def test_dynamic_programming_is_brute_force(rates):
    brute = max(
        sum(rollout_value(count, rate) for count, rate in zip(counts, rates))
        for counts in itertools.product(range(1, 7), repeat=3)
        if sum(counts) == 9
    )
    assert best_by_dynamic_programming(rates, 9, 6) == pytest.approx(brute)


def test_hard_but_possible_prompts_get_most_and_hopeless_and_sure_ones_least():
    counts = dict(zip((0.02, 0.3, 0.98), allocate([0.02, 0.3, 0.98], 24)))
    assert counts[0.3] > counts[0.02] > counts[0.98] == 1


@pytest.mark.parametrize("seed", [0, 1])
def test_knapsack_raises_the_share_of_prompts_whose_replies_differ_among_the_ones_worth_it(seed):
    """Where half of the prompts are always right and the others hard, equal totals give more of the hard a gradient."""
    generator = torch.Generator().manual_seed(seed)
    rates = [0.999] * 16 + [0.08] * 16
    shares = {}
    for name in ("fixed", "knapsack"):
        plan, differing = make_plan(name, 8), 0
        for _ in range(12):
            drawn, earned = [], []

            def draw(places, drawn=drawn, earned=earned):
                rewards = (
                    torch.rand(len(places), generator=generator) < torch.tensor([rates[p] for p in places])
                ).float()
                drawn.extend(places)
                earned.extend(rewards.tolist())
                return rewards

            plan.sample(list(range(32)), draw, generator)
            differing += sum(len({e for p, e in zip(drawn, earned) if p == place}) > 1 for place in range(32))
        shares[name] = differing
    assert shares["knapsack"] > 1.1 * shares["fixed"]


def test_smoothing_never_gives_a_prompt_up():
    rates = SuccessRates()
    rates.record([0] * 8 + [1] * 8, torch.tensor([0.0] * 8 + [1.0] * 8))
    never, always = rates.of([0, 1]).tolist()
    assert never == pytest.approx(1 / 10)
    assert always == pytest.approx(9 / 10)
    assert rollout_value(4, never) > 0


@given(RATES, st.integers(0, 30), st.integers(1, 3), st.integers(4, 9))
@settings(max_examples=60, deadline=None)
def test_e3_spends_exactly_the_total_and_more_on_the_harder(rates, extra, least, most):
    budget = min(least * len(rates) + extra, most * len(rates))
    counts = allocate_by_difficulty(rates, budget, least, most)
    assert sum(counts) == budget
    assert least <= min(counts) <= max(counts) <= most
    by_difficulty = [count for _, count in sorted(zip(rates, counts), key=lambda pair: pair[0])]
    assert all(one >= two - 1 for one, two in itertools.pairwise(by_difficulty))


def test_equal_difficulty_gives_every_prompt_as_many():
    assert allocate_by_difficulty([0.4] * 5, 40, 4, 16) == [8] * 5


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_temperature_holds_the_entropy_of_a_policy_that_would_collapse(seed):
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(50, generator=generator)
    last = {}
    for held in (False, True):
        logits, controller, heat, entropies = start.clone(), EntropyTemperature(50, most=20.0), 1.0, []
        for step in range(300):
            logs = (logits / heat).log_softmax(0)
            entropies.append(float(-(logs.exp() * logs).sum()))
            heat = controller.step(entropies[-1], step / 300) if held else 1.0
            logits = logits * 1.005  # training sharpens the policy
        last[held] = entropies[-1] / entropies[0]
        if held:
            assert all(0.8 <= entropy / entropies[0] <= 1.15 for entropy in entropies)
    assert last[False] < 0.6
    assert last[True] == pytest.approx(0.9, abs=0.08)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("leave", ["positive", "balanced"])
def test_every_group_that_reinforce_ada_keeps_has_replies_that_differ(seed, leave):
    generator = torch.Generator().manual_seed(seed)
    rates = [0.02, 0.1, 0.5, 0.9, 1.0, 0.0]
    plan, drawn, earned = make_plan("reinforce-ada", 4, leave=leave), [], []

    def draw(places):
        rewards = (torch.rand(len(places), generator=generator) < torch.tensor([rates[p] for p in places])).float()
        drawn.extend(places)
        earned.extend(rewards.tolist())
        return rewards

    kept = plan.sample(list(range(6)), draw, generator)
    groups = {place: [earned[i] for i in kept.replies if drawn[i] == place] for place in range(6)}
    assert all(len(set(rewards)) == 2 and len(rewards) == 4 for rewards in groups.values() if rewards)
    assert groups[4] == groups[5] == []
    assert drawn.count(5) == 32  # four rounds of eight: nothing was found
    assert drawn.count(2) < 32
    for place in range(6):
        own = [reward for p, reward in zip(drawn, earned) if p == place]
        assert float(kept.baselines[place]) == pytest.approx(sum(own) / len(own))


def test_one_round_that_keeps_all_is_grpo():
    plan = make_plan("reinforce-ada", 4, rounds=1, round_size=4)
    rewards = torch.tensor([1.0, 0.0, 0.0, 1.0])
    kept = plan.sample([3], lambda places: rewards, torch.Generator().manual_seed(0))
    assert kept.replies == [0, 1, 2, 3]
    groups = torch.zeros(4, dtype=torch.long)
    torch.testing.assert_close(
        compute_advantages("global-mean", Replies(rewards, groups, baselines=kept.baselines)),
        compute_advantages("centred", Replies(rewards, groups)),
    )


@pytest.mark.parametrize("leave", ["positive", "balanced"])
def test_reinforce_ada_spends_its_budget_on_prompts_that_are_still_undecided(leave):
    generator = torch.Generator().manual_seed(0)
    rates, drawn = [0.05, 0.5, 0.95], []
    plan = make_plan("reinforce-ada", 4, leave=leave)

    def draw(places):
        drawn.extend(places)
        return (torch.rand(len(places), generator=generator) < torch.tensor([rates[p] for p in places])).float()

    for _ in range(30):
        plan.sample([0, 1, 2], draw, generator)
    hard, even, easy = (drawn.count(place) for place in range(3))
    assert hard > 1.3 * even
    assert easy > 1.3 * even if leave == "balanced" else easy < hard / 1.3  # a positive is all that it waits for
