"""lipo: DPO's own loss and gradient on pairs, SLiC, LiPO-lambda by loops, and what lists add on planted data."""

import math
from itertools import product

import pytest
import torch

from lorank.catalogue import METHODS
from lorank.errors import UsageError
from lorank.ranking.losses import LOSSES, loss
from lorank.ranking.losses.lipo import log_ratio_scores


def row(*values):
    return torch.tensor([values], dtype=torch.float64)


def test_lipo_on_two_responses_with_unit_weight_is_dpo_loss_and_gradient():
    """DPO's equations: -log sigma(h), and its gradient by log pi: -beta sigma(-h) and +beta sigma(-h)."""
    beta, chosen, rejected, ref_chosen, ref_rejected = 0.3, -4.0, -6.5, -5.0, -6.0
    h = beta * ((chosen - ref_chosen) - (rejected - ref_rejected))
    policy = row(rejected, chosen).requires_grad_()
    unit = 1 / ((2 - 1) * (1 / math.log(2) - 1 / math.log(3)))  # 1 / Delta of a list of two
    for name, weight in (("dpo", 1.0), ("lipo-lambda", unit)):
        value = LOSSES[name](
            log_ratio_scores(policy, row(ref_rejected, ref_chosen), beta),
            row(0, 1),
            None,
            torch.tensor([weight], dtype=torch.float64),
        )
        (gradient,) = torch.autograd.grad(value, policy)
        assert float(value.detach()) == pytest.approx(math.log1p(math.exp(-h)))
        slope = beta / (1 + math.exp(h))
        assert gradient[0].tolist() == pytest.approx([slope, -slope])


def test_lipo_with_the_hinge_on_two_responses_is_slic():
    assert float(LOSSES["slic"](row(0.2, 0.5), row(1, 0), margin=0.7)) == pytest.approx(max(0, 0.7 - (0.2 - 0.5)))
    assert LOSSES["slic"](row(2.0, 0.5), row(1, 0)) == 0


def test_lipo_lambda_by_loops():
    s, y = (0.4, -0.3, 1.1, 0.2, 2.0), (1, 0, 0, 2, 1)
    tau = [1 + sum(other > own for other in s) for own in s]
    expected = sum(
        abs(2 ** y[i] - 2 ** y[j])
        * abs(1 / math.log(1 + tau[i]) - 1 / math.log(1 + tau[j]))
        * math.log1p(math.exp(-(s[i] - s[j])))
        for i, j in product(range(5), repeat=2)
        if y[i] > y[j]
    )
    assert float(LOSSES["lipo-lambda"](row(*s), row(*y))) == pytest.approx(expected)


def test_dpo_averages_a_list_and_smooths_labels():
    s, y, e = (0.4, -0.3, 1.1), (1, 0, 2), 0.1
    gaps = [s[i] - s[j] for i, j in product(range(3), repeat=2) if y[i] > y[j]]
    expected = sum((1 - e) * math.log1p(math.exp(-g)) + e * math.log1p(math.exp(g)) for g in gaps) / 3
    assert float(LOSSES["dpo"](row(*s), row(*y), label_smoothing=e)) == pytest.approx(expected)
    torch.testing.assert_close(LOSSES["dpo"](row(*s), row(*y)), LOSSES["ranknet"](row(*s), row(*y)))
    with pytest.raises(UsageError, match="label_smoothing"):
        loss("dpo", label_smoothing=0.5)


def test_smoothed_dpo_is_least_at_the_log_odds_of_the_flips():
    scores = row(math.log(0.9 / 0.1), 0.0).requires_grad_()
    LOSSES["dpo"](scores, row(1, 0), label_smoothing=0.1).backward()
    assert scores.grad.abs().max() < 1e-12


def test_lipo_lambda_reaches_at_least_the_ndcg_of_dpo_on_best_and_worst_pairs():
    """Ranked lists of 8 with noisy grades: DPO sees the best and the worst, LiPO-lambda the list."""
    assert METHODS["lipo"].area == "losses.preference"
    generator = torch.Generator().manual_seed(0)
    planted = torch.tensor([1.0, -1.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0])
    train, test = (torch.randn(lists, 8, 8, generator=generator) for lists in (40, 200))
    quality = train @ planted + 0.5 * torch.randn(40, 8, generator=generator)
    grades = quality.argsort(1).argsort(1).float() / 2
    ends = (grades == grades.amax(1, keepdim=True)) | (grades == grades.amin(1, keepdim=True))

    def ndcg(mask, name):
        weights = torch.zeros(8, requires_grad=True)
        optimizer = torch.optim.Adam([weights], lr=0.05)
        for _ in range(100):
            optimizer.zero_grad()
            LOSSES[name](train @ weights, grades, mask).backward()
            optimizer.step()
        truth = (test @ planted).argsort(1).argsort(1).float() / 2
        return -float(LOSSES["approxndcg"]((test @ weights).detach(), truth, temperature=1e-5))

    assert ndcg(None, "lipo-lambda") >= ndcg(ends, "dpo")
