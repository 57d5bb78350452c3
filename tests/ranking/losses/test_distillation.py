"""MarginMSE and the divergence from a teacher: loops, limits, torch as peer."""

import pytest
import torch

from lorank.ranking.losses import LOSSES

margin_mse, kl, softmax = LOSSES["margin-mse"], LOSSES["kl"], LOSSES["softmax"]


def random_batch(lists=3, size=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, lists, size, generator=generator, dtype=torch.float64)


def test_margin_mse_by_loops():
    scores, teacher = random_batch()
    weights = torch.rand(3, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    plain, weighted = 0.0, 0.0
    for s, y, w in zip(scores.tolist(), teacher.tolist(), weights.tolist()):
        pairs = [((s[i] - s[j] - y[i] + y[j]) ** 2, (w[i] + w[j]) / 2) for i in range(7) for j in range(i)]
        plain += sum(square for square, _ in pairs) / len(pairs) / 3
        weighted += sum(square * weight for square, weight in pairs) / len(pairs) / 3
    assert float(margin_mse(scores, teacher)) == pytest.approx(plain)
    assert float(margin_mse(scores, teacher, None, weights)) == pytest.approx(weighted)


def test_margin_mse_does_not_care_for_levels():
    scores, teacher = random_batch()
    torch.testing.assert_close(margin_mse(scores + 5, teacher - 3), margin_mse(scores, teacher))
    assert float(margin_mse(teacher + 2, teacher)) == pytest.approx(0)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_kl_is_torchs(temperature):
    scores, teacher = random_batch()
    ours, theirs = (scores / temperature).log_softmax(1), (teacher / temperature).log_softmax(1)
    expected = torch.nn.functional.kl_div(ours, theirs, log_target=True, reduction="batchmean") * temperature**2
    torch.testing.assert_close(kl(scores, teacher, temperature=temperature), expected)


def test_kl_has_the_gradient_of_softmax_cross_entropy_with_soft_targets():
    scores, teacher = random_batch()
    scores.requires_grad_()
    (ours,) = torch.autograd.grad(kl(scores, teacher), scores)
    (cross_entropy,) = torch.autograd.grad(softmax(scores, teacher, target="softmax"), scores)
    torch.testing.assert_close(ours, cross_entropy)


def test_a_hot_teacher_is_margin_mse():
    """As T grows the divergence goes to half the variance of the differences: (n - 1) / (4 n) of MarginMSE."""
    scores, teacher = random_batch()
    hot = kl(scores, teacher, temperature=1e4)
    assert float(hot) == pytest.approx(float(margin_mse(scores, teacher)) * 6 / (4 * 7), rel=1e-3)


def test_the_teachers_own_scores_cost_nothing():
    _, teacher = random_batch()
    assert float(kl(teacher + 3, teacher)) == pytest.approx(0, abs=1e-12)
