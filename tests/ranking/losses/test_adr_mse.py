"""ADR-MSE against its formula and its limit."""

import math

import pytest
import torch

from lorank.ranking.losses import loss


def row(*values):
    return torch.tensor([values], dtype=torch.float64)


def test_by_loops():
    s, y, t = (0.4, -1.0, 2.2, 0.0), (1, 0, 3, 2), 0.7
    wanted = [1 + sum(other > own for other in y) for own in y]
    soft = [
        1 + sum(1 / (1 + math.exp((own - other) / t)) for j, other in enumerate(s) if j != i) for i, own in enumerate(s)
    ]
    expected = sum((w - r) ** 2 / math.log2(1 + w) for w, r in zip(wanted, soft)) / 4
    assert float(loss("adr-mse", temperature=t)(row(*s), row(*y))) == pytest.approx(expected)


def test_cold_ranks_are_compared_exactly():
    cold = loss("adr-mse", temperature=1e-4)
    assert float(cold(row(3, 2, 1), row(2, 1, 0))) == pytest.approx(0, abs=1e-9)
    assert float(cold(row(1, 2, 3), row(2, 1, 0))) == pytest.approx((4 / math.log2(2) + 4 / math.log2(4)) / 3)


def test_tied_grades_share_their_mean_rank():
    cold = loss("adr-mse", temperature=1e-4)
    expected = (2 * 0.25 / math.log2(2.5)) / 3
    assert float(cold(row(3, 2, 1), row(1, 1, 0))) == pytest.approx(expected)
