"""ctr-welfare-rankloss: by loops, equal bids, the bound on welfare regret, and welfare on planted data."""

import math
from itertools import product

import pytest
import torch

from lorank.ranking.losses import LOSSES, loss

welfare = LOSSES["ctr-welfare-rankloss"]


def auctions(count, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(count, size, generator=generator, dtype=torch.float64)
    bids = 5 * torch.rand(count, size, generator=generator, dtype=torch.float64)
    return scores, (torch.rand(count, size, generator=generator) < 0.4).double(), bids


def by_loops(s, y, b, sigma=1.0):
    p = [1 / (1 + math.exp(-x)) for x in s]
    return sum(
        (b[i] * y[i] - b[j] * y[j]) * math.log1p(math.exp(-sigma * (b[i] * p[i] - b[j] * p[j])))
        for i, j in product(range(len(s)), repeat=2)
        if b[i] * y[i] > b[j] * y[j]
    )


@pytest.mark.parametrize("sigma", [0.5, 2.0])
def test_by_loops_with_a_masked_advertisement(sigma):
    scores, clicks, bids = auctions(1, 6)
    mask = torch.tensor([[True, True, True, False, True, True]])
    value = welfare(scores, clicks, mask, bids=bids.masked_fill(~mask, math.nan), sigma=sigma)
    kept = [part[mask].tolist() for part in (scores, clicks, bids)]
    assert float(value) == pytest.approx(by_loops(*kept, sigma))
    function = loss("ctr-welfare-rankloss", sigma=sigma)
    assert torch.autograd.gradcheck(lambda s: welfare(s, clicks, mask, bids=bids), scores.requires_grad_())
    assert function(scores.detach(), clicks) > 0


def test_ctr_welfare_rankloss_with_equal_bids_is_the_pairwise_loss_of_click_rates():
    scores, clicks, _ = auctions(3, 5)
    expected = []
    for p, y in zip(scores.sigmoid().tolist(), clicks.tolist()):
        pairs = [math.log1p(math.exp(-(p[i] - p[j]))) for i, j in product(range(5), repeat=2) if y[i] > y[j]]
        expected += [sum(pairs)] if pairs else []
    assert float(welfare(scores, clicks)) == pytest.approx(sum(expected) / len(expected))
    torch.testing.assert_close(welfare(scores, clicks, bids=torch.ones_like(scores)), welfare(scores, clicks))


def test_ctr_welfare_rankloss_bounds_the_welfare_regret_on_random_auctions():
    """The winner by b p loses max b y - b y of welfare: one mis-ordered pair, whose loss is at least log 2 of it."""
    for seed in range(50):
        scores, clicks, bids = auctions(1, 6, seed)
        value = (bids * clicks)[0]
        regret = value.max() - value[(bids * scores.sigmoid())[0].argmax()]
        assert regret <= welfare(scores, clicks, bids=bids) / math.log(2) + 1e-12


def test_ctr_welfare_rankloss_brings_more_welfare_than_bce_at_equal_auc():
    """Two groups of advertisements, one feature too few to be calibrated in both: BCE fits the many cheap ones,
    the welfare loss the few dear ones; within each group the order, and so the AUC over clicks, is near the same."""
    generator = torch.Generator().manual_seed(0)

    def draw(count):
        dear = (torch.rand(count, 10, generator=generator) < 0.3).float()
        x = torch.randn(count, 10, generator=generator)
        chance = torch.sigmoid(x * (1 - dear) + dear * (1.5 * x - 1.5))
        clicks = (torch.rand(count, 10, generator=generator) < chance).float()
        return x, clicks, chance, 1 + 9 * dear

    x, clicks, _, bids = draw(500)
    test_x, _, test_chance, test_bids = draw(3000)

    def fitted(function):
        weights = torch.zeros(2, requires_grad=True)
        optimizer = torch.optim.Adam([weights], lr=0.05)
        for _ in range(200):
            optimizer.zero_grad()
            function(weights[0] * x + weights[1]).backward()
            optimizer.step()
        slope, bias = weights.tolist()
        winner = (test_bids * (slope * test_x + bias).sigmoid()).argmax(1, keepdim=True)
        return slope, float((test_bids * test_chance).gather(1, winner).mean())

    slope, gained = fitted(lambda s: welfare(s, clicks, bids=bids))
    plain_slope, plain = fitted(lambda s: LOSSES["bce"](s, clicks))
    assert slope > 0  # scores of both models rise with the one feature:
    assert plain_slope > 0  # the same order of advertisements, the same AUC
    assert gained > plain
