"""The Low-Rank Transformer: operations by formula, full rank, and the best factors (greenformers-lrt)."""

import time

import pytest
import torch
from torch import Tensor, nn
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


class Block(nn.Module):
    """One block of an encoder: attention of one head and a network of four times the width; d is the width.

    With ``length`` keys and values are projected on ``compressed`` places first, as Linformer does.
    """

    def __init__(self, d, length=None, compressed=32):
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(d, d, bias=False) for _ in range(4))
        self.up, self.down = nn.Linear(d, 4 * d, bias=False), nn.Linear(4 * d, d, bias=False)
        self.shorten = None if length is None else nn.Parameter(torch.randn(2, compressed, length) / length**0.5)

    def forward(self, x: Tensor) -> Tensor:
        k, v = self.key(x), self.value(x)
        if self.shorten is not None:
            k, v = self.shorten[0] @ k, self.shorten[1] @ v
        scores = self.query(x) @ k.mT * x.shape[-1] ** -0.5
        x = x + self.out(scores.softmax(-1) @ v)
        return x + self.down(torch.relu(self.up(x)))


def blocks(d, length, rank=16):
    """The block as a Low-Rank Transformer, and as a Linformer."""
    low_rank = Block(d)
    make_factored(low_rank, "greenformers-lrt", rank=rank)
    return low_rank.eval(), Block(d, length).eval()


def operations(model, x):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(x)
    return counter.get_total_flops()


@pytest.mark.parametrize("length", [16, 400, 2000])
def test_operations_of_a_block_beside_linformers_by_formula(length):
    """LRT: 36 n r d + 4 n^2 d; Linformer: 24 n d^2 + 8 n k d. They meet at n = 6 d + 2 k - 9 r."""
    d, r, k = 64, 4, 32
    low_rank, linformer = (operations(model, torch.randn(1, length, d)) for model in blocks(d, length, r))
    assert low_rank == 36 * length * r * d + 4 * length**2 * d
    assert linformer == 24 * length * d**2 + 8 * length * k * d
    assert (low_rank < linformer) == (length < 6 * d + 2 * k - 9 * r)


def seconds(models, x, rounds=5):
    """The least time of each model in rounds in which all take turns."""
    found = [float("inf")] * len(models)
    with torch.no_grad():
        for _ in range(rounds + 1):
            for place, model in enumerate(models):
                began = time.perf_counter()
                model(x)
                found[place] = min(found[place], time.perf_counter() - began)
    return found


@pytest.mark.slow
def test_the_low_rank_transformer_is_faster_on_short_texts_and_linformer_on_long_ones():
    """By operations 7 times fewer at 64 tokens and 2.7 times more at 4096; what a clock says is given much room."""
    ratios = {}
    for length in (64, 4096):
        low_rank, linformer = seconds(blocks(256, length), torch.randn(1, length, 256))
        ratios[length] = low_rank / linformer
    assert ratios[64] < 0.9 < 1.1 < ratios[4096]
