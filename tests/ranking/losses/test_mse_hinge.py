"""Squared error and the pairwise hinge against their formulas."""

from itertools import product

import pytest
import torch

from lorank.ranking.losses.hinge import hinge
from lorank.ranking.losses.mse import mse


def row(*values):
    return torch.tensor([values], dtype=torch.float64)


def random_batch(lists=3, size=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(lists, size, generator=generator, dtype=torch.float64)
    return scores, torch.randint(4, (lists, size), generator=generator).double()


def test_mse_by_hand_and_at_its_minimum():
    assert float(mse(row(2, -1, 0.5), row(1, 0, 0.5))) == pytest.approx((1 + 1 + 0) / 3)
    assert mse(row(2, 0, 1), row(2, 0, 1)) == 0


def test_mse_takes_a_teachers_scores_below_zero():
    scores, teacher = row(0.3, -1.2), row(-5.0, 2.5)
    assert float(mse(scores, teacher)) == pytest.approx((5.3**2 + 3.7**2) / 2)


def test_mse_can_keep_lists_whose_labels_are_equal():
    assert mse(row(2, -1), row(1, 1)) == 0
    assert float(mse(row(2, -1), row(1, 1), keep_equal=True)) == pytest.approx((1 + 4) / 2)


@pytest.mark.parametrize("margin", [0.5, 1.0, 3.0])
def test_hinge_by_loops(margin):
    scores, labels = random_batch()
    lists = []
    for s, y in zip(scores.tolist(), labels.tolist()):
        pairs = [max(0.0, margin - (s[i] - s[j])) for i, j in product(range(7), repeat=2) if y[i] > y[j]]
        lists.append(sum(pairs) / len(pairs))
    assert float(hinge(scores, labels, margin=margin)) == pytest.approx(sum(lists) / 3)


def test_hinge_is_zero_with_no_gradient_once_every_gap_is_a_margin():
    scores = row(4.0, 2.5, 1.0).requires_grad_()
    value = hinge(scores, row(2, 1, 0), margin=1.5)
    value.backward()
    assert value == 0
    assert (scores.grad == 0).all()
