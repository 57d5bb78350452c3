"""Soft ranks, ApproxNDCG, ApproxMRR and the transform: formulas, limits, plain autograd as peer."""

import math

import pytest
import torch

from lorank.ranking.losses.approx import approx_mrr, approx_ndcg, smooth, soft_ranks
from lorank.ranking.losses.core.lists import clean, discounts, normalized_gains, ranks
from lorank.ranking.losses.core.pairs import BLOCK


def row(*values):
    return torch.tensor([values], dtype=torch.float64)


def random_batch(lists=3, size=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(lists, size, generator=generator, dtype=torch.float64)
    return scores, torch.randint(4, (lists, size), generator=generator).double()


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_soft_ranks_by_loops():
    s = (0.4, -1.0, 2.2)
    expected = [1 + sum(sigmoid((t - own) / 0.7) for j, t in enumerate(s) if j != i) for i, own in enumerate(s)]
    assert soft_ranks(clean(row(*s), row(0, 0, 0)), 0.7)[0].tolist() == pytest.approx(expected)


def test_soft_ranks_sum_to_what_ranks_sum_to():
    scores, labels = random_batch(size=9)
    torch.testing.assert_close(soft_ranks(clean(scores, labels), 3.0).sum(1), torch.full((3,), 45.0).double())


def test_blocked_gradient_is_that_of_plain_autograd():
    size = int(BLOCK**0.5) + 7
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(1, size, generator=generator, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(1, size, generator=generator, dtype=torch.float64)
    plain = 0.5 + ((scores.unsqueeze(1) - scores.unsqueeze(2)) / 0.5).sigmoid().sum(2)
    blocked = soft_ranks(clean(scores, torch.zeros_like(scores)), 0.5)
    torch.testing.assert_close(blocked, plain)
    (expected,) = torch.autograd.grad(plain, scores, upstream)
    (gradient,) = torch.autograd.grad(blocked, scores, upstream)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("k", [None, 3])
@pytest.mark.parametrize("gain", ["linear", "exponential"])
def test_cold_approxndcg_is_exact_ndcg(k, gain):
    scores, labels = random_batch()
    lists = clean(scores, labels)
    ndcg = (normalized_gains(lists, gain, k) * discounts(ranks(lists), k)).sum(1).mean()
    assert float(approx_ndcg(scores, labels, temperature=1e-4, k=k, gain=gain)) == pytest.approx(-float(ndcg))


def test_cold_approxmrr_is_exact_reciprocal_rank():
    scores, labels = row(0.1, 3.0, 2.0, 1.0), row(1, 0, 0, 2)
    assert float(approx_mrr(scores, labels, temperature=1e-4)) == pytest.approx(-1 / 3)
    assert float(approx_mrr(scores, row(1, 0, 0, 0), temperature=1e-4)) == pytest.approx(-1 / 4)
    assert float(approx_mrr(scores, row(1, 0, 0, 2), temperature=1e-4, threshold=2)) == pytest.approx(-1 / 3)
    assert approx_mrr(scores, row(0.5, 0, 0, 0)) == 0


def test_any_measure_can_be_smoothed():
    """Rank-biased precision, (1 - p) sum p^(r - 1) over the relevant, written once for ranks."""

    def rbp(rank, lists):
        return 0.2 * 0.8 ** (rank - 1) * (lists.labels > 0)

    scores, labels = row(0.1, 3.0, 2.0, 1.0), row(1, 0, 1, 0)
    assert float(smooth(rbp, 1e-4)(scores, labels)) == pytest.approx(-0.2 * (0.8**3 + 0.8))
    warm = scores.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: smooth(rbp, 0.5)(s, labels), warm)


def test_tied_best_documents_share_the_gradient():
    scores = row(1.0, 1.0, 0.0).requires_grad_()
    approx_mrr(scores, row(1, 1, 0)).backward()
    assert scores.grad[0, 0] == scores.grad[0, 1]
