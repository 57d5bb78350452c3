"""The first step of each choice on a 2 x 3 weight, worked by hand."""

import math

import pytest
import torch

from lorank.lowrank.projected import INNERS, PRESETS, PROJECTORS, RESIDUALS, WEIGHTS, Projection

W = [[1.0, 2.0, 2.0], [0.0, 1.0, -1.0]]
G = [[3.0, 0.0, 4.0], [0.0, 2.0, 0.0]]  # singular values 5 and 2, left vectors (1, 0) and (0, 1)
LR = 0.5
w, g = torch.tensor(W).double(), torch.tensor(G).double()
upper = torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]], dtype=torch.float64)


def test_gradient_descent_moves_by_the_projected_gradient(given):
    found = given(W, G, Projection(inner="sgd", scale=0.25), lr=LR, rank=1)
    torch.testing.assert_close(found, w - LR * 0.25 * g * upper)


def test_adams_first_direction_is_the_sign(given):
    found = given(W, G, Projection(scale=0.25), lr=LR, rank=1)
    torch.testing.assert_close(found, w - LR * 0.25 * g.sign() * upper, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("per", ["column", "matrix"])
def test_firas_rest_is_scaled_as_the_subspace_was(per, given):
    found = given(W, G, Projection(inner="sgd", residual="fira", scale=0.25, per=per), lr=LR, rank=1)
    factors = torch.tensor([1.0, 0.0, 1.0]) if per == "column" else torch.ones(3)  # sgd: ||N|| = ||R||, 0 where R is 0
    torch.testing.assert_close(found, w - LR * (0.25 * g * upper + g * (1 - upper) * factors), atol=1e-7, rtol=1e-7)


def test_frugals_rest_is_its_sign(given):
    found = given(W, G, Projection(inner="sgd", residual="sign", rest_rate=0.1), lr=LR, rank=1)
    torch.testing.assert_close(found, w - LR * (g * upper + 0.1 * (g * (1 - upper)).sign()))


@pytest.mark.parametrize("per", ["column", "matrix"])
def test_apollo_scales_the_gradient(per, given):
    found = given(W, G, Projection(projector="identity", residual="channel", per=per, scale=2.0), lr=LR)
    factors = torch.tensor([1 / 3, 1 / 2, 1 / 4]) if per == "column" else math.sqrt(3 / 29)  # N is the sign of R = G
    torch.testing.assert_close(found, w - LR * 2 * g * factors, atol=1e-6, rtol=1e-6)


def test_floras_current_gradient_enters_whole(given):
    found = given(W, G, Projection(projector="random", inner="adafactor", residual="current"), lr=LR, rank=1)
    square = g.square() + 1e-30
    rows, columns = square.mean(1), square.mean(0)
    u = g / torch.sqrt(rows[:, None] * columns / rows.mean())
    u = u / u.square().mean().sqrt().clamp_min(1)
    torch.testing.assert_close(found, w - LR * (1 - 0.9) * u)


def test_a_normalised_weight_steps_in_magnitude_and_direction(given):
    found = given(W, G, Projection(projector="identity", inner="sgd", weights="normalised"), lr=0.1)
    norms = w.norm(dim=0)
    unit = w / norms
    slope = (g * unit).sum(0)
    direction = w - 0.1 * (g - unit * slope)
    magnitude = norms - 0.1 * torch.where(slope == 0, 0.0, slope.sign())
    torch.testing.assert_close(found, direction / direction.norm(dim=0) * magnitude, atol=1e-6, rtol=1e-6)


def test_a_truncated_change_has_the_gradients_leading_part(given):
    found = given(W, G, Projection(projector="identity", inner="sgd", weights="truncated"), lr=LR, rank=1)
    torch.testing.assert_close(found, w - LR * g * upper)


@pytest.mark.parametrize(
    ("projector", "captured"),
    [("svd", g * upper), ("randomised", g * upper), ("largest-coordinates", g * upper), ("identity", g)],
)
def test_what_a_projector_captures(projector, captured, given):
    found = given(W, G, Projection(projector=projector, inner="sgd"), lr=1.0, rank=1)
    torch.testing.assert_close(w - found, captured)


def test_four_bits_hold_a_basis_of_zeros_and_ones(given):
    found = given(W, G, Projection(projector="int4", inner="sgd"), lr=1.0, rank=1)
    torch.testing.assert_close(w - found, g * upper)


def test_the_cosine_of_the_largest_norm(given):
    found = given(W, G, Projection(projector="dct", inner="sgd"), lr=1.0, rank=1)
    mean = (g[0] + g[1]) / math.sqrt(2)  # D of size 2 is the sum and the difference; both have norm sqrt(29 / 2)
    sides = [torch.stack([mean, mean]) / math.sqrt(2), torch.stack([g[0] - g[1], g[1] - g[0]]) / 2]
    assert any(torch.allclose(w - found, side) for side in sides)


def test_decay_comes_first_and_no_direction_is_left_out(given):
    found = given(W, G, Projection(projector="identity", inner="sgd"), lr=LR, weight_decay=0.1)
    torch.testing.assert_close(found, w * (1 - LR * 0.1) - LR * g)


def test_every_choice_of_an_axis_that_changes_the_step_is_used_by_a_preset():
    for axis, registry in (("residual", RESIDUALS), ("weights", WEIGHTS)):
        assert {getattr(preset, axis) for preset in PRESETS.values()} == set(registry)
    assert {preset.inner for preset in PRESETS.values()} == set(INNERS)
    assert {preset.projector for preset in PRESETS.values()} <= set(PROJECTORS)
