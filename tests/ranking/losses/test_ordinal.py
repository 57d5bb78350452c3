"""Ordinal regression against its formula, and its minimum."""

import math

import pytest
import torch

from lorank.errors import UsageError
from lorank.ranking.losses import LOSSES, loss

ordinal = LOSSES["ordinal"]


def row(*values):
    return torch.tensor([values], dtype=torch.float64)


def test_by_loops():
    s, y, theta = (0.3, -1.0, 2.0), (2, 0, 5), (-1.0, 0.5, 1.0)
    expected = (
        sum(
            math.log1p(math.exp(-(x - t) if grade >= k else x - t))
            for x, grade in zip(s, y)
            for k, t in enumerate(theta, 1)
        )
        / 9
    )
    assert float(ordinal(row(*s), row(*y), thresholds=theta)) == pytest.approx(expected)


def test_default_thresholds_are_even_around_zero():
    args = row(0.3, -1.0), row(3, 0)
    assert ordinal(*args, grades=3) == ordinal(*args, thresholds=(-1.0, 0.0, 1.0))
    assert ordinal(*args, grades=1) == loss("bce")(*args)


def test_middle_grade_is_best_between_its_thresholds():
    scores = row(0.0, 3.0).requires_grad_()
    ordinal(scores, row(1, 2), thresholds=(-2.0, 2.0)).backward()
    assert abs(scores.grad[0, 0]) < 1e-15  # grade 1 of 0..2: halfway between the two
    assert scores.grad[0, 1] < 0


@pytest.mark.parametrize("options", [{"grades": 0}, {"thresholds": (1.0, 1.0)}, {"thresholds": ()}])
def test_thresholds_must_rise(options):
    with pytest.raises(UsageError):
        loss("ordinal", **options)
