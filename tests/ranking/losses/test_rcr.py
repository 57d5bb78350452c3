"""rcr: its formula, and that its minimiser is calibrated while softmax + BCE's is not."""

import math
from itertools import product

import pytest
import torch

from lorank.ranking.losses import LOSSES, loss

SCORES, LABELS = (0.2, 1.4, -0.3), (1.0, 0.0, 0.25)
PROBABILITIES = torch.tensor([[0.9, 0.5, 0.2, 0.05]], dtype=torch.float64)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize("target", ["normalized", "labels"])
def test_by_hand(target):
    total = sum(sigmoid(s) for s in SCORES)
    listwise = -sum(y * math.log(sigmoid(s) / total) for s, y in zip(SCORES, LABELS))
    pointwise = -sum(y * math.log(sigmoid(s)) + (1 - y) * math.log(sigmoid(-s)) for s, y in zip(SCORES, LABELS)) / 3
    expected = listwise / (sum(LABELS) if target == "normalized" else 1) + 0.7 * pointwise
    value = loss("rcr", alpha=0.7, target=target)(torch.tensor([SCORES]).double(), torch.tensor([LABELS]).double())
    assert float(value) == pytest.approx(expected)


def test_without_relevant_documents_only_calibration_counts():
    scores, zeros = torch.tensor([[0.3, -2.0]]), torch.zeros(1, 2)
    assert loss("rcr")(scores, zeros) == 0
    kept = loss("rcr", keep_equal=True, alpha=2.0)(scores, zeros)
    assert float(kept) == pytest.approx(2 * float(loss("bce", keep_equal=True)(scores, zeros)))


def minimiser(objective):
    scores = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [scores], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-15, line_search_fn="strong_wolfe"
    )

    def step():
        optimizer.zero_grad()
        value = objective(scores)
        value.backward()
        return value

    optimizer.step(step)
    return scores.detach().sigmoid()


def test_rcr_minimiser_is_calibrated_and_that_of_softmax_with_bce_is_not():
    """With probabilities as labels: RCR's sigmoid(s) is P(y = 1), the naive sum's is far from it."""
    calibrated = minimiser(lambda s: LOSSES["rcr"](s, PROBABILITIES, alpha=0.5))
    torch.testing.assert_close(calibrated, PROBABILITIES, atol=1e-5, rtol=0)
    naive = minimiser(lambda s: LOSSES["softmax"](s, PROBABILITIES) + 0.5 * LOSSES["bce"](s, PROBABILITIES))
    assert (naive - PROBABILITIES).abs().max() > 0.1


def test_rcr_is_calibrated_in_expectation_over_binary_labels():
    outcomes = torch.tensor(list(product([0.0, 1.0], repeat=4)), dtype=torch.float64)
    chance = torch.where(outcomes == 1, PROBABILITIES, 1 - PROBABILITIES).prod(1) * len(outcomes)

    def expected_loss(scores):
        return LOSSES["rcr"](scores.expand(16, 4), outcomes, None, chance, target="labels", keep_equal=True)

    torch.testing.assert_close(minimiser(expected_loss), PROBABILITIES, atol=1e-5, rtol=0)


def test_rcr_orders_as_well_as_softmax_at_a_lower_log_loss():
    """One weight a feature, planted logits: the joint loss keeps nDCG and its log loss is below softmax + BCE's."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(200, 10, 5, generator=generator, dtype=torch.float64)
    true = features @ torch.tensor([2.0, -1.0, 0.5, 0.0, 0.0], dtype=torch.float64) - 1.5
    labels = (torch.rand(200, 10, generator=generator, dtype=torch.float64) < true.sigmoid()).double()

    def fitted(objective):
        weights = torch.zeros(6, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

        def step():
            optimizer.zero_grad()
            value = objective(features @ weights[:5] + weights[5])
            value.backward()
            return value

        optimizer.step(step)
        return (features @ weights[:5] + weights[5]).detach()

    bce = LOSSES["bce"]
    joint = fitted(lambda s: LOSSES["rcr"](s, labels, keep_equal=True))
    naive = fitted(lambda s: LOSSES["softmax"](s, labels) + bce(s, labels, keep_equal=True))

    def ndcg(scores):
        return -float(LOSSES["approxndcg"](scores, labels, temperature=1e-6))

    assert ndcg(joint) >= ndcg(naive) - 0.005
    assert bce(joint, labels, keep_equal=True) < bce(naive, labels, keep_equal=True) - 0.001
