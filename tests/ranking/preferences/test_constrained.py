"""constrained-rlhf: multipliers that let go and hold, a run that stops at the hump, points that a search finds."""

import numpy as np
import pytest
import torch

from lorank.catalogue import METHODS
from lorank.errors import UsageError
from lorank.ranking.preferences import Multipliers, best_points, mixed_advantages

HUMP = 2.0


def test_constrained_rlhf_multipliers_vanish_when_slack_and_grow_when_violated():
    assert METHODS["constrained-rlhf"].area == "losses.preference"
    multipliers = Multipliers([1.0], rate=0.2)
    grown = [float(multipliers.step([3.0])[0]) for _ in range(5)]
    assert grown == pytest.approx([0.4 * i for i in range(1, 6)])
    assert [float(multipliers.step([0.0])[0]) for _ in range(12)][-1] == 0.0
    assert float(Multipliers([0.0], rate=1.0, most=2.0).step([100.0])[0]) == pytest.approx(2.0)


def run(point, steps=400, seed=0):
    """A Gaussian policy; two proxies rise without end, the first one bounded, and leaving the base policy costs."""
    generator = torch.Generator().manual_seed(seed)
    mean, multipliers = torch.zeros(1), Multipliers([point], rate=0.02)
    for _ in range(steps):
        noise = torch.randn(64, generator=generator)
        action = mean + 0.3 * noise
        proxy, other, divergence = action, 0.2 * action, 0.1 * action.square()
        parts = [reward - reward.mean() for reward in (proxy + other - divergence, proxy)]
        advantage = mixed_advantages(parts[0], parts[1].unsqueeze(0), multipliers.values)
        mean = mean + 0.1 * (advantage * noise / 0.3).mean()
        multipliers.step([float(proxy.mean())])
    return float(mean), float(multipliers.values[0])


def test_constrained_rlhf_stops_at_the_hump_of_the_true_reward():
    """The true reward -(x - 2)^2 rises with the proxy up to its point and falls beyond it."""
    bounded, multiplier = run(HUMP)
    free, _ = run(1e9)
    assert bounded == pytest.approx(HUMP, abs=0.3)
    assert free > 2 * HUMP
    assert multiplier == pytest.approx(1.2 - 0.2 * HUMP, abs=0.2)  # where the mixed gradient is zero


def test_a_search_finds_the_points():
    found = best_points(lambda points: -((points[0] - HUMP) ** 2) - (points[1] + 1) ** 2, [0.5, 0.5], evaluations=150)
    np.testing.assert_allclose(found, [HUMP, -1.0], atol=0.01)


def test_mixed_advantages_and_bad_input():
    task, bounded = torch.tensor([1.0, 2.0]), torch.tensor([[1.0, 0.0], [0.0, 4.0]])
    torch.testing.assert_close(mixed_advantages(task, bounded, [2.0, 0.25]), torch.tensor([-1.0, 1.0]))
    with pytest.raises(UsageError, match="bounded advantages"):
        mixed_advantages(task, bounded, [1.0])
    with pytest.raises(UsageError, match="2 rewards for 1"):
        Multipliers([1.0]).step([1.0, 2.0])
    with pytest.raises(UsageError, match="a point for each"):
        Multipliers([])
