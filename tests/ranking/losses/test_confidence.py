"""confidence-ranking-ctr: its formula, its direction, its reduction, and an online retrain in small."""

import math

import pytest
import torch

from lorank.catalogue import METHODS
from lorank.errors import UsageError
from lorank.ranking.losses import LOSSES
from lorank.ranking.losses.confidence import SURROGATES, confidence_ranking


def row(*values):
    return torch.tensor([values], dtype=torch.float64)


def softplus(x):
    return math.log1p(math.exp(x))


def test_by_hand():
    value = confidence_ranking(row(0.3, -1.0), row(1, 0), reference=row(0.5, 0.5), strength=0.4)
    expected = (softplus(-0.3) + softplus(-1.0) + 0.4 * (softplus(-(0.3 - 0.5)) + softplus(-1.0 - 0.5))) / 2
    assert float(value) == pytest.approx(expected)
    hinge = confidence_ranking(row(0.3), row(1), reference=row(0.5), surrogate="hinge")
    assert float(hinge) == pytest.approx(softplus(-0.3) + max(0, 1 - (0.3 - 0.5)))


def test_confidence_ranking_ctr_with_weight_zero_is_bce():
    scores, labels = row(0.3, -1.0, 2.0), row(1, 0, 1)
    torch.testing.assert_close(
        confidence_ranking(scores, labels, reference=row(9, 9, 9), strength=0.0), LOSSES["bce"](scores, labels)
    )


@pytest.mark.parametrize("surrogate", sorted(SURROGATES))
def test_confidence_ranking_ctr_falls_iff_the_new_logit_improves_in_the_labels_direction(surrogate):
    assert METHODS["confidence-ranking-ctr"].area == "recsys"
    phi, old = SURROGATES[surrogate], row(0.4, -0.2)
    for label, better in ((1.0, 0.5), (0.0, -0.5)):
        labels, sign = torch.full((1, 2), label, dtype=torch.float64), 2 * label - 1
        assert (phi(sign * better * torch.ones(2)) < phi(torch.zeros(2))).all()
        improved, same, worse = (
            confidence_ranking(old + step, labels, reference=old, surrogate=surrogate)
            for step in (better, 0.0, -better)
        )
        assert improved < same < worse


def test_padding_permutation_and_gradient():
    generator = torch.Generator().manual_seed(0)
    scores, serving = torch.randn(2, 2, 5, generator=generator, dtype=torch.float64)
    labels = (torch.rand(2, 5, generator=generator) < 0.5).double()
    mask = torch.tensor([[True] * 5, [True, True, True, False, False]])
    value = confidence_ranking(scores, labels, mask, reference=serving)
    dirty = confidence_ranking(
        scores.masked_fill(~mask, math.nan), labels, mask, reference=serving.masked_fill(~mask, math.inf)
    )
    torch.testing.assert_close(dirty, value)
    order = torch.tensor([3, 0, 4, 2, 1])
    torch.testing.assert_close(
        confidence_ranking(scores[:, order], labels[:, order], mask[:, order], reference=serving[:, order]), value
    )
    assert torch.autograd.gradcheck(
        lambda s: confidence_ranking(s, labels, mask, reference=serving), scores.requires_grad_()
    )
    with pytest.raises(UsageError, match="shape"):
        confidence_ranking(scores, labels, mask, reference=serving[:, :2])


def test_confidence_ranking_ctr_gains_auc_when_retrained_on_a_day_of_clicks():
    """The serving model was fitted to yesterday's law; a new one starts there and takes a few steps on today's."""
    generator = torch.Generator().manual_seed(0)
    yesterday, today = torch.tensor([1.0, -1.0, 0.0, 0.5]), torch.tensor([0.2, -1.0, 1.2, 0.5])

    def day(weights, count):
        x = torch.randn(count, 4, generator=generator)
        return x, (torch.rand(count, generator=generator) < (x @ weights).sigmoid()).float()

    def auc(scores, clicks):
        return float((scores[clicks == 1].unsqueeze(1) > scores[clicks == 0]).float().mean())

    x, clicks = day(today, 400)
    test_x, test_clicks = day(today, 2000)

    def retrained(strength):
        weights = yesterday.clone().requires_grad_()
        optimizer = torch.optim.SGD([weights], lr=0.3)
        for _ in range(15):
            optimizer.zero_grad()
            confidence_ranking(
                (x @ weights)[None], clicks[None], reference=(x @ yesterday)[None], strength=strength
            ).backward()
            optimizer.step()
        return auc(test_x @ weights.detach(), test_clicks)

    assert retrained(1.0) > retrained(0.0) > auc(test_x @ yesterday, test_clicks)
