"""Clipping bounds what a client changes, noise has the stated size, and epsilon is the accountant's."""

import math

import pytest
import torch

from lorank.errors import LorankError, UsageError
from lorank.federated.privacy import Privacy, clip_difference, norm_of


def test_what_a_client_changes_is_never_larger_than_the_clip() -> None:
    received = {"a": torch.randn(30), "b": torch.randn(4, 5)}
    for size in (0.01, 1.0, 100.0):
        message = {name: tensor + size * torch.randn(tensor.shape) for name, tensor in received.items()}
        sent = Privacy(2.0).protect(message, received, torch.Generator())
        change = norm_of({name: sent[name] - received[name] for name in sent})
        asked = norm_of({name: message[name] - received[name] for name in message})
        assert change == pytest.approx(min(2.0, asked), rel=1e-4)


def test_noise_has_the_stated_deviation_and_comes_from_the_generator() -> None:
    received = {"a": torch.zeros(40_000)}
    one, two, other = (
        Privacy(0.5, 3.0).protect(received, received, torch.Generator().manual_seed(seed))["a"] for seed in (1, 1, 2)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert one.std().item() == pytest.approx(1.5, rel=0.03)
    assert one.mean().item() == pytest.approx(0, abs=0.05)


def test_epsilon_is_that_of_the_gaussian_mechanism_within_the_slack_of_renyi() -> None:
    """Renyi: rounds * alpha / (2 sigma^2) + log1p(-1/alpha) - log(delta alpha) / (alpha - 1), least over alpha."""
    pytest.importorskip("opacus")
    for noise, rounds, delta in ((1.0, 1, 1e-5), (4.0, 30, 1e-3), (10.0, 100, 1e-6)):
        least = min(
            rounds * a / (2 * noise**2) + math.log1p(-1 / a) - (math.log(delta) + math.log(a)) / (a - 1)
            for a in [1 + x / 10 for x in range(1, 100)] + list(range(12, 64))
        )
        assert Privacy(1.0, noise, delta).epsilon(rounds, 1) == pytest.approx(least, rel=1e-6)


def test_more_rounds_cost_more_and_more_noise_costs_less() -> None:
    pytest.importorskip("opacus")
    values = [Privacy(1.0, 2.0).epsilon(rounds, 100) for rounds in (1, 5, 20)]
    assert values == sorted(values)
    assert Privacy(1.0, 4.0).epsilon(5, 100) < values[1]
    assert Privacy(1.0, 0.0).epsilon(5, 100) == math.inf
    assert Privacy(1.0, 1.0).delta_of(400) == pytest.approx(1 / 400)


def test_settings_that_cannot_be_are_named() -> None:
    for clip, noise, delta in ((0.0, 1.0, None), (1.0, -1.0, None), (1.0, 1.0, 2.0)):
        with pytest.raises(UsageError, match="give|above"):
            Privacy(clip, noise, delta)
    with pytest.raises(LorankError, match="not finite"):
        clip_difference({"a": torch.tensor([math.nan])}, {}, 1.0)
