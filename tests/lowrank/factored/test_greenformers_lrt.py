"""The Low-Rank Transformer: operations by formula, full rank, and the best factors (greenformers-lrt)."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from factored_layers import LAYERS, Small
from lorank.lowrank.factored import make_factored


def test_operations_and_values_are_what_the_formula_says(small, rows):
    made = make_factored(small, "greenformers-lrt", rank=3, targets=LAYERS)
    for row in made.report():
        layer = made.layers[row.path]
        layer.bias = None
        with FlopCounterMode(display=False) as counter:
            layer(torch.randn(1, layer.in_features))
        assert counter.get_total_flops() == row.flops == 2 * 3 * sum(row.shape)


@pytest.mark.parametrize("seed", [0, 1])
def test_at_full_rank_it_is_the_original(rows, seed):
    model = Small(seed)
    before = model(rows)
    make_factored(model, "greenformers-lrt", rank={"wide": 24, "narrow": 16}, targets=LAYERS)
    torch.testing.assert_close(model(rows), before, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_distance_is_that_of_the_singular_values_left_out(seed):
    model = Small(seed)
    weight = model.wide.weight.detach().clone()
    (layer,) = make_factored(model, "greenformers-lrt", rank=5, targets=["wide"]).layers.values()
    left = torch.linalg.svdvals(weight)[5:].square().sum().sqrt()
    torch.testing.assert_close((layer.dense() - weight).norm(), left, atol=1e-5, rtol=1e-4)


def test_a_random_start_varies_as_the_layer_did():
    torch.manual_seed(0)
    weight = nn.Linear(300, 200)
    model = nn.Sequential(weight)
    spread = float(weight.weight.std())
    (layer,) = make_factored(model, "greenformers-lrt", rank=40, targets="0", start="random").layers.values()
    assert float(layer.dense().std()) == pytest.approx(spread, rel=0.1)


def test_inputs_of_any_layout_are_taken(small):
    make_factored(small, "greenformers-lrt", rank=3, targets=LAYERS)
    x = torch.randn(24, 6).t().unsqueeze(0).expand(2, 6, 24)
    assert small(x).shape == (2, 6, 3)
