"""data-diet: EL2N and GraNd by hand, mislabelled lists on top, and half the data for the same nDCG."""

import math

import pytest
import torch

from lorank.catalogue import METHODS
from lorank.errors import UsageError
from lorank.ranking.losses import LOSSES, loss
from lorank.ranking.losses.data_diet import el2n, grand, keep_hardest


def test_el2n_by_hand_with_a_masked_document():
    s, y = (0.3, -1.0, 2.0), (2.0, 0.0, 1.0)
    total = sum(math.exp(x) for x in s)
    expected = math.sqrt(sum((math.exp(x) / total - label / 3) ** 2 for x, label in zip(s, y)))
    mask = torch.tensor([[True, True, True, False]])
    assert float(el2n(torch.tensor([[*s, math.nan]]), torch.tensor([[*y, 9.0]]), mask)) == pytest.approx(expected)
    assert el2n(torch.tensor([s]), torch.zeros(1, 3)) == 0


def test_grand_of_a_linear_ranker_under_softmax_is_known():
    """d l / d w = X^T (p - q): with orthonormal documents its norm is EL2N."""
    x = torch.eye(4, dtype=torch.float64).expand(3, 4, 4)
    weights = torch.randn(4, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[1, 0, 0, 0], [0, 2, 1, 0], [0, 0, 0, 3]]).double()
    norms = grand(loss("softmax"), x @ weights, labels, parameters=[weights])
    torch.testing.assert_close(norms, el2n(x @ weights, labels))


def planted(generator, lists, mislabelled):
    x = torch.randn(lists, 8, 6, generator=generator)
    quality = x @ torch.tensor([2.0, -2.0, 1.0, 0.0, 0.0, 0.0])
    wrong = torch.rand(lists, generator=generator) < mislabelled
    chosen = torch.where(wrong.unsqueeze(1), quality.argmin(1, keepdim=True), quality.argmax(1, keepdim=True))
    return x, torch.zeros(lists, 8).scatter(1, chosen, 1.0), wrong


def train(x, labels, steps, seed=0):
    weights = (0.1 * torch.randn(6, generator=torch.Generator().manual_seed(seed))).requires_grad_()
    optimizer = torch.optim.Adam([weights], lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        LOSSES["softmax"](x @ weights, labels).backward()
        optimizer.step()
    return weights


def early(x, labels, measure):
    values = []
    for seed in range(3):
        weights = train(x, labels, 10, seed)
        values.append(
            el2n(x @ weights, labels)
            if measure == "el2n"
            else grand(loss("softmax"), x @ weights, labels, parameters=[weights])
        )
    return torch.stack(values).mean(0)


@pytest.mark.parametrize("measure", ["el2n", "grand"])
def test_data_diet_scores_rank_mislabelled_lists_on_top(measure):
    assert METHODS["data-diet"].area == "active"
    x, labels, wrong = planted(torch.Generator().manual_seed(0), 120, mislabelled=0.1)
    difficulty = early(x, labels, measure)
    above = (difficulty[wrong].unsqueeze(1) > difficulty[~wrong]).float().mean()
    assert above > 0.9
    top = difficulty.argsort(descending=True)[: int(wrong.sum())]
    assert wrong[top].float().mean() > 0.6


def test_data_diet_pruning_half_keeps_ndcg():
    generator = torch.Generator().manual_seed(0)
    x, labels, _ = planted(generator, 120, mislabelled=0.0)
    test_x, test_labels, _ = planted(generator, 300, mislabelled=0.0)
    kept = keep_hardest(early(x, labels, "el2n"), 0.5)
    assert int(kept.sum()) == 60

    def ndcg(weights):
        return -float(LOSSES["approxndcg"]((test_x @ weights).detach(), test_labels, temperature=1e-5))

    assert ndcg(train(x[kept], labels[kept], 150)) > ndcg(train(x, labels, 150)) - 0.01


def test_keep_hardest_counts_and_refuses():
    difficulty = torch.arange(10.0)
    assert keep_hardest(difficulty, 0.3).nonzero().flatten().tolist() == [7, 8, 9]
    assert keep_hardest(difficulty, 0.3, drop_extreme=0.2).nonzero().flatten().tolist() == [5, 6, 7]
    assert keep_hardest(difficulty, 1.0).all()
    for fraction, extreme in ((0.0, 0.0), (0.9, 0.2), (0.5, -0.1)):
        with pytest.raises(UsageError, match="fraction"):
            keep_hardest(difficulty, fraction, drop_extreme=extreme)
