"""groco: networks that sort, doubly stochastic soft permutations, limits, closed forms on two and three wires."""

import math
from itertools import permutations, product

import pytest
import torch

from lorank.ranking.losses import loss
from lorank.ranking.losses.core.sorting_network import NETWORKS, send_back, swap_chances

every_network = pytest.mark.parametrize("network", sorted(NETWORKS))


def row(*values):
    return torch.tensor([values], dtype=torch.float64)


def soft_permutation(network, values, steepness):
    """P [place, wire] of one list, with the network's spare wires."""
    layers = NETWORKS[network](values.shape[1])
    wires = max(max(layer.upper + layer.lower) for layer in layers) + 1
    values = torch.nn.functional.pad(values, (0, wires - values.shape[1]))
    mask = (torch.arange(wires) < wires).unsqueeze(0)
    return send_back(torch.eye(wires, dtype=values.dtype)[None], swap_chances(values, mask, layers, steepness))[0].T


def cauchy(x):
    return 0.5 + math.atan(x) / math.pi


@every_network
def test_the_network_sorts_every_sequence_of_zeros_and_ones(network):
    """The 0-1 principle: a network that sorts all of these sorts everything."""
    for size in (2, 4, 8):
        rows = torch.tensor(list(product([0.0, 1.0], repeat=size)), dtype=torch.float64)
        for layer in NETWORKS[network](size):
            upper, lower = rows[:, layer.upper], rows[:, layer.lower]
            rows[:, layer.upper], rows[:, layer.lower] = torch.maximum(upper, lower), torch.minimum(upper, lower)
        assert (rows[:, 1:] <= rows[:, :-1]).all()


@every_network
def test_groco_soft_permutation_is_doubly_stochastic_and_goes_to_the_hard_sort(network):
    values = torch.randn(1, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for steepness in (0.1, 3.0, 100.0):
        matrix = soft_permutation(network, values, steepness)
        torch.testing.assert_close(matrix.sum(0), torch.ones(8).double())
        torch.testing.assert_close(matrix.sum(1), torch.ones(8).double())
        assert (matrix >= 0).all()
    hard = torch.nn.functional.one_hot(values[0].argsort(descending=True), 8).double()
    torch.testing.assert_close(soft_permutation(network, values, 1e9), hard, atol=1e-6, rtol=0)


@every_network
def test_groco_costs_nothing_when_all_positives_precede_and_sorting_is_sharp(network):
    function = loss("groco", network=network, steepness=1e9)
    for scores in permutations((5.0, 4.0, 3.0, 2.0, 1.0)):
        ordered = sorted(range(5), key=lambda i: -scores[i])
        labels = [1.0 if ordered.index(i) < 2 else 0.0 for i in range(5)]
        assert float(function(row(*scores), row(*labels))) == pytest.approx(0, abs=1e-6)
    assert function(row(1, 2, 3), row(1, 0, 0)) > 3


@every_network
def test_two_documents(network):
    value = loss("groco", network=network, steepness=2.0)(row(0.3, 1.0), row(2, 1))
    assert float(value) == pytest.approx(-math.log(cauchy(2.0 * (0.3 - 1.0))))


def test_three_documents_by_hand():
    """Odd-even on wires (a | b, c), a the positive: compare 1-2, 2-3, 1-2; chance that a is at place 1."""
    a, b, c = 0.5, 1.0, -0.2
    first = cauchy(b - a)
    upper, lower = (1 - first) * a + first * b, first * a + (1 - first) * b
    second = cauchy(c - lower)
    lower = (1 - second) * lower + second * c
    third = cauchy(lower - upper)
    a_home = (1 - first) * (1 - third) + first * (1 - second) * third
    b_away = first * (1 - third) + (1 - first) * (1 - second) * third
    c_away = second * third
    assert a_home + b_away + c_away == pytest.approx(1)
    value = loss("groco", network="odd-even", steepness=1.0)(row(c, a, b), row(0, 1, 0))
    assert float(value) == pytest.approx(-(math.log(a_home) + math.log(1 - b_away) + math.log(1 - c_away)) / 3)


def test_a_thousand_documents():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 1000, generator=generator, requires_grad=True)
    labels = torch.randint(3, (2, 1000), generator=generator)
    value = loss("groco")(scores, labels)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(scores.grad).all()
    assert scores.grad.abs().sum() > 0
