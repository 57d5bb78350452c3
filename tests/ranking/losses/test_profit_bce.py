"""pa-riskranker: its reductions, its gradient, permutation through attention, and profit on planted data."""

import math

import pytest
import torch
from torch import nn

from lorank.errors import UsageError
from lorank.ranking.losses import LOSSES, loss

profit_bce, bce = LOSSES["pa-riskranker"], LOSSES["bce"]


def row(*values):
    return torch.tensor([values], dtype=torch.float64)


def test_pa_riskranker_with_equal_profits_is_bce():
    scores = row(0.3, -1.0, 2.0)
    torch.testing.assert_close(profit_bce(scores, row(5, -5, 5)), bce(scores, row(1, 0, 1)))
    torch.testing.assert_close(profit_bce(scores, row(9, -1, 2), share=0.0), bce(scores, row(1, 0, 1)))


def test_by_hand():
    s, v, mu = (0.3, -1.0, 2.0), (6.0, -2.0, 0.0), 0.7
    mean = 8 / 3
    cost = [math.log1p(math.exp(-s[0])), math.log1p(math.exp(s[1])), math.log1p(math.exp(s[2]))]
    expected = sum((1 - mu + mu * abs(x) / mean) * c for x, c in zip(v, cost)) / 3
    assert float(profit_bce(row(*s), row(*v), share=mu)) == pytest.approx(expected)
    with pytest.raises(UsageError, match="share"):
        loss("pa-riskranker", share=1.5)


def test_pa_riskranker_gradient_of_an_item_scales_with_its_profit():
    scores = row(0.5, 0.5, -1.0, -1.0).requires_grad_()
    (gradient,) = torch.autograd.grad(profit_bce(scores, row(10, 30, -2, -8)), scores)
    assert float(gradient[0, 1] / gradient[0, 0]) == pytest.approx(3)
    assert float(gradient[0, 3] / gradient[0, 2]) == pytest.approx(4)


class Attentive(nn.Module):
    """The paper's shape in small: attention across the items of a list, then one score an item."""

    def __init__(self):
        super().__init__()
        self.across = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, dtype=torch.float64)
        self.score = nn.Linear(8, 1, dtype=torch.float64)

    def forward(self, items):
        return self.score(self.across(items)).squeeze(2)


def test_pa_riskranker_permuting_items_permutes_the_scores_and_keeps_the_loss():
    torch.manual_seed(0)
    scorer, generator = Attentive(), torch.Generator().manual_seed(0)
    items = torch.randn(2, 6, 8, generator=generator, dtype=torch.float64)
    profits, order = torch.randn(2, 6, generator=generator, dtype=torch.float64), torch.tensor([4, 0, 5, 2, 1, 3])
    scores, moved = scorer(items), scorer(items[:, order])
    torch.testing.assert_close(moved, scores[:, order])
    torch.testing.assert_close(profit_bce(moved, profits[:, order]), profit_bce(scores, profits))


def test_pa_riskranker_profit_at_k_above_plain_bce_on_planted_data():
    """One feature tells small profits, another large ones, at odds: a linear scorer must choose what to get right."""
    generator = torch.Generator().manual_seed(0)

    def lists(count):
        large = torch.rand(count, 20, generator=generator) < 0.2
        sign = torch.randn(count, 20, generator=generator).sign()
        profit = sign * torch.where(large, 20.0, 1.0)
        hint = torch.where(large, -sign, sign) + 0.5 * torch.randn(count, 20, generator=generator)
        return torch.stack([hint, large * 1.0], 2), profit

    features, profit = lists(100)
    test_features, test_profit = lists(200)

    def profit_at_5(function):
        weights = torch.zeros(3, requires_grad=True)
        optimizer = torch.optim.Adam([weights], lr=0.1)
        for _ in range(150):
            optimizer.zero_grad()
            function(features @ weights[:2] + weights[2]).backward()
            optimizer.step()
        chosen = (test_features @ weights[:2].detach()).topk(5, dim=1).indices
        return float(test_profit.gather(1, chosen).sum(1).mean())

    aware = profit_at_5(lambda scores: profit_bce(scores, profit))
    plain = profit_at_5(lambda scores: bce(scores, (profit > 0).float()))
    assert aware > plain + 5
