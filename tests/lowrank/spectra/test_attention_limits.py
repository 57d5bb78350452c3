"""Attention by polynomials: right below the threshold as predicted, useless above (lora-computational-limits)."""

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from counted_numbers import CountedNumbers
from lorank import lowrank
from lorank.errors import UsageError
from lorank.lowrank.spectra.attention_limits import (
    attention_bounds,
    degree_for,
    polynomial_attention,
    polynomial_features,
    weight_error,
)

SEEDS = [0, 1, 2]
BOUNDS = (0.1, 0.3, 1.0, 2.0, 4.0, 8.0)


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def scaled(seed, bound, tokens=24, width=4):
    """Queries, keys and values whose largest |q . k| / sqrt(d) is ``bound``."""
    q, k, v = (normal(100 * seed + place, tokens, width) for place in range(3))
    largest = float((q @ k.t()).abs().max()) * width**-0.5
    return q * (bound / largest), k, v


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_the_product_of_features_is_the_polynomial_of_the_scores(seed, degree):
    q, k = normal(seed, 5, 3), normal(seed + 9, 7, 3)
    scores = q @ k.t()
    expected = sum(scores**power / math.factorial(power) for power in range(degree + 1))
    features = polynomial_features(q, degree)
    assert features.shape == (5, math.comb(3 + degree, 3))
    torch.testing.assert_close(features @ polynomial_features(k, degree).t(), expected)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("degree", [2, 4])
def test_the_error_is_within_what_is_predicted_below_the_threshold_and_blows_up_above(seed, degree):
    errors = []
    for bound in BOUNDS:
        q, k, v = scaled(seed, bound)
        exact = F.scaled_dot_product_attention(q, k, v)
        error = float((polynomial_attention(q, k, v, degree) - exact).abs().max() / v.abs().max())
        assert error <= weight_error(bound, degree) + 1e-12
        errors.append(error)
    threshold = math.sqrt(math.log(24))  # 1.78
    low = [error for bound, error in zip(BOUNDS, errors, strict=True) if bound < threshold / 2]
    high = [error for bound, error in zip(BOUNDS, errors, strict=True) if bound > 2 * threshold]
    assert max(low) < 1e-2
    assert min(high) > 10 * max(low)
    assert max(high) > 0.1
    assert all(a < b for a, b in pairwise(errors[:5]))


def lora_gradients(seed, size, attend):
    """The gradients of the factors of a LoRA on queries and keys, by a way of attending."""
    layers = nn.ModuleDict({name: nn.Linear(4, 4, bias=False).double() for name in ("query", "key", "value")})
    with torch.no_grad():
        for place, layer in enumerate(layers.values()):
            layer.weight.copy_(normal(seed + place, 4, 4) / 2)
    adapter = lowrank.attach(layers, "lora", rank=2, targets=["query", "key"], seed=seed)
    with torch.no_grad():
        for place, parameter in enumerate(adapter.parameters()):
            parameter.copy_(normal(seed + 50 + place, *parameter.shape) / 2)
    x = normal(seed + 20, 24, 4) * size
    goal = normal(seed + 30, 24, 4)
    (attend(layers["query"](x), layers["key"](x), layers["value"](x)) * goal).sum().backward()
    bound = float((layers["query"](x) @ layers["key"](x).t()).detach().abs().max() / 2)
    return torch.cat([p.grad.flatten() for p in adapter.parameters()]), bound


@pytest.mark.parametrize("seed", SEEDS)
def test_gradients_of_a_lora_are_right_below_the_threshold_and_wrong_above(seed):
    found = {}
    for size in (0.2, 2.5):
        exact, bound = lora_gradients(seed, size, F.scaled_dot_product_attention)
        near, _ = lora_gradients(seed, size, lambda q, k, v: polynomial_attention(q, k, v, 4))
        found[size] = (bound, float((near - exact).norm() / exact.norm()))
    threshold = math.sqrt(math.log(24))
    assert found[0.2][0] < threshold / 2
    assert found[0.2][1] < 1e-2
    assert found[2.5][0] > 2 * threshold
    assert found[2.5][1] > 0.1


def test_no_tensor_has_the_square_of_the_length_forwards_or_backwards():
    largest = []
    for tokens in (500, 1000):
        q, k, v = (each.requires_grad_() for each in scaled(0, 0.5, tokens))
        with CountedNumbers() as counted:
            polynomial_attention(q, k, v, 2).sum().backward()
        largest.append(counted.largest)
    assert largest[1] == 2 * largest[0]
    assert largest[1] <= 1000 * math.comb(4 + 2, 2)


def test_the_degree_grows_with_the_scores_until_there_is_none():
    degrees = [degree_for(bound, 0.01) for bound in (0.0, 0.1, 1.0, 4.0, 16.0)]
    assert degrees == sorted(degrees)
    for bound, degree in zip((0.1, 1.0, 4.0), degrees[1:], strict=False):
        assert weight_error(bound, degree) <= 0.01 < weight_error(bound, degree - 1)
    assert degree_for(1000.0, 0.01) is None
    with pytest.raises(UsageError, match="above 0"):
        degree_for(1.0, 0.0)


class Heads(nn.Module):
    """An attention of two query heads that share the head of keys, as its mask comes by name."""

    num_attention_heads = 2

    def __init__(self):
        super().__init__()
        self.q_proj, self.k_proj = nn.Linear(4, 4, bias=False), nn.Linear(4, 2, bias=False)

    def forward(self, x, attention_mask=None):
        return self.q_proj(x), self.k_proj(x)


def test_bounds_of_a_model_are_those_of_the_norms_at_real_tokens():
    model, x = Heads().double(), normal(3, 2, 5, 4)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 0, 0, 0]])
    (found,) = attention_bounds(model, lambda: model(x, attention_mask=mask))
    real = x[mask.bool()]
    q, k = model.q_proj(real).view(5, 2, 2), model.k_proj(real)
    expected = [float((q[:, head].norm(dim=1).max() * k.norm(dim=1).max() / 2**0.5).detach()) for head in range(2)]
    assert found.bounds == pytest.approx(expected)
    assert (found.length, found.width) == (3, 2)
    assert found.threshold == pytest.approx(math.sqrt(math.log(3)))
    assert found.below == sum(bound < found.threshold for bound in expected)
    assert found.columns() == math.comb(2 + found.degree(), 2)


def test_models_without_such_layers_and_silent_ones_are_refused():
    with pytest.raises(UsageError, match="no attention with layers of its own"):
        attention_bounds(nn.Linear(2, 2), lambda: None)
    with pytest.raises(UsageError, match="has computed nothing"):
        attention_bounds(Heads(), lambda: None)
