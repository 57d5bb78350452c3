"""Mixes of rewards: simplex, volumes, a front that constant weights miss, and a bound that stops at the hump.

Among the methods of the catalogue that these are facts of: dynamic-reward-weighting.
"""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorank.ranking.policies.mixes import make_mix
from lorank.ranking.policies.mixes.hypervolume import hypervolume


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=4))
@settings(max_examples=50, deadline=None)
def test_the_hypervolume_is_that_of_inclusion_and_exclusion(points):
    def volume(corner):
        return corner[0] * corner[1] * corner[2]

    total = 0.0
    for size in range(1, len(points) + 1):
        for chosen in itertools.combinations(points, size):
            total += (-1) ** (size + 1) * volume([min(p[axis] for p in chosen) for axis in range(3)])
    assert hypervolume(points, [0.0, 0.0, 0.0]) == pytest.approx(total, abs=1e-9)


def test_dynamic_reward_weighting_published_scaling_of_a_step_by_hand():
    mix, parts = make_mix("hypervolume", [1.0, 1.0], margin=0.1), torch.tensor([[1.0, 1.0]])
    mix.observe_dev([0.5, 0.5])
    assert float(mix(parts)) == pytest.approx(2 * (0.5 + 1.5 * float(torch.tensor(0.01).tanh())))
    mix.observe_dev([0.9, 0.9])
    added = 0.5 * 0.5 - 0.1 * 0.1
    assert float(mix(parts)) == pytest.approx(2 * (0.5 + 1.5 * float(torch.tensor(added).tanh())))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("unit", [False, True])
def test_dynamic_reward_weighting_by_gradients_stays_on_the_simplex_and_rise_with_influence(seed, unit):
    generator = torch.Generator().manual_seed(seed)
    mix = make_mix("gradient", [1.0, 2.0, 1.0], rate=0.5, unit=unit)
    for _ in range(50):
        mix.observe_gradients(list(torch.randn(3, 8, generator=generator)))
        assert float(mix.weights.sum()) == pytest.approx(1.0, abs=1e-5)
        assert float(mix.weights.min()) >= 0
    mix = make_mix("gradient", [1.0, 1.0], rate=0.5)
    mix.observe_gradients([torch.tensor([1.0, 0.0]), torch.tensor([0.0, 0.5])])
    shares = torch.tensor([1.0, 0.25]) / 1.25  # <g_k, sum g> over the squared norm of the sum
    torch.testing.assert_close(mix.weights, (torch.tensor([0.5, 0.5]).log() + 0.5 * shares).softmax(0))


def test_constant_weights_are_the_sum_whatever_was_seen_and_equal_influence_keeps_the_others_there():
    parts = torch.rand(6, 2, generator=torch.Generator().manual_seed(0))
    fixed, equal = make_mix("fixed", [0.7, 0.3]), make_mix("gradient", [0.7, 0.3], rate=0.5)
    for mix in (fixed, equal):
        mix.observe_dev([0.9, 0.1])
        mix.observe_gradients([torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0])])
        torch.testing.assert_close(mix(parts), 0.7 * parts[:, 0] + 0.3 * parts[:, 1])


def climbed(mix, start, steps=400, rate=0.01):
    """Climb the parts x^2 and (1 - x)^2, whose front between (0, 1) and (1, 0) sags inwards."""
    x = start
    for _ in range(steps):
        mix.observe_dev([x**2, (1 - x) ** 2])
        parts = torch.tensor([[2 * x, -2 * (1 - x)]])
        x = min(1.0, max(0.0, x + rate * float(mix(parts))))
    return x


@pytest.mark.parametrize("start", [0.3, 0.42, 0.6, 0.7])
def test_the_volumes_gradient_reaches_the_middle_of_a_concave_front_that_no_fixed_weights_reach(start):
    for weight in (0.2, 0.35, 0.5, 0.65, 0.8):
        end = climbed(make_mix("fixed", [weight, 1 - weight]), start)
        assert end < 0.02 or end > 0.98
    assert climbed(make_mix("hypervolume", [1.0, 1.0], guide="gradient", floor=0.0), start) == pytest.approx(
        0.5, abs=0.1
    )


@pytest.mark.parametrize("start", [0.2, 1.5])
def test_a_bounded_part_stops_a_run_at_the_hump_of_the_true_reward(start):
    """A proxy x rises for ever, the true reward x - x^2 / 4 falls from x = 2 on: the bound holds the run there."""
    free, held = start, start
    mix = make_mix("constrained", [1.0, 1.0], point=2.0, rate=0.05)
    for _ in range(2000):
        free += 0.01
        mix.observe_step([held, held])
        held += 0.01 * float(mix(torch.tensor([[1.0, 1.0]])))
    assert free > 20
    assert held == pytest.approx(2.0, abs=0.3)
    slack = make_mix("constrained", [1.0, 1.0], point=5.0)
    slack.observe_step([1.0, 1.0])
    assert float(slack(torch.tensor([[1.0, 3.0]]))) == pytest.approx(1.0)  # multipliers of slack bounds are 0
