"""answer-rerank-curriculum: its weights, its heuristics by hand, and planted lists whose hard documents are noise."""

import math

import pytest
import torch

from lorank.catalogue import METHODS
from lorank.errors import UsageError
from lorank.ranking.losses import LOSSES
from lorank.ranking.losses.curriculum import HEURISTICS, curriculum_weights, easiness, pair_easiness


def row(*values):
    return torch.tensor([values], dtype=torch.float64)


def test_answer_rerank_curriculum_weights_are_d_at_epoch_0_and_1_from_epoch_m():
    d = torch.rand(3, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(curriculum_weights(d, 0, 5), d)
    for epoch in (5, 6, 100):
        assert torch.equal(curriculum_weights(d, epoch, 5), d + (1 - d))
    torch.testing.assert_close(curriculum_weights(d, 2, 5), d + 2 / 5 * (1 - d))
    with pytest.raises(UsageError, match="epoch"):
        curriculum_weights(d, -1, 5)


def test_answer_rerank_curriculum_with_d_1_is_the_plain_loss():
    scores, labels = row(0.3, -1.0, 2.0), row(1, 0, 2)
    weights = curriculum_weights(torch.ones(1, 3, dtype=torch.float64), 0, 5)
    for name in ("bce", "ranknet", "hinge"):
        torch.testing.assert_close(LOSSES[name](scores, labels, None, weights), LOSSES[name](scores, labels))


def test_heuristics_by_hand():
    b, y = (9.0, 7.0, 3.0), (0, 1, 0)
    assert easiness(row(*b), row(*y))[0].tolist() == pytest.approx([1 - 1, 1 / 2, 1 - 1 / 3])
    assert easiness(row(*b), row(*y), heuristic="normalized")[0].tolist() == pytest.approx([1 - 1, 4 / 6, 1 - 0])
    mean = sum(b) / 3
    width = 3**-0.2 * math.sqrt(sum((x - mean) ** 2 for x in b) / 3)
    share = [sum(0.5 * (1 + math.erf((x - z) / width / math.sqrt(2))) for z in b) / 3 for x in b]
    expected = [1 - share[0], share[1], 1 - share[2]]
    assert easiness(row(*b), row(*y), heuristic="density")[0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("heuristic", sorted(HEURISTICS))
def test_padding_and_equal_scores(heuristic):
    mask = torch.tensor([[True, True, True, False]])
    padded = easiness(row(9, 7, 3, math.nan), row(0, 1, 0, 1), mask, heuristic=heuristic)
    torch.testing.assert_close(padded[:, :3], easiness(row(9, 7, 3), row(0, 1, 0), heuristic=heuristic))
    flat = easiness(row(2, 2), row(1, 0), heuristic=heuristic)
    assert ((flat >= 0) & (flat <= 1)).all()
    assert float(pair_easiness(row(0.2, 0.6))) == pytest.approx(0.4)


def test_answer_rerank_curriculum_gives_higher_mrr_when_the_hard_documents_are_noise():
    """Relevant documents that the first stage ranks low are often wrong labels; the curriculum trusts them late."""
    assert METHODS["answer-rerank-curriculum"].area == "losses.supervised"

    def lists(generator, count, flipped):
        x = torch.randn(count, 10, 5, generator=generator)
        quality = x @ torch.tensor([1.0, -1.0, 0.5, 0.0, 0.0])
        best = quality.argmax(1, keepdim=True)
        first_stage = quality + 0.3 * torch.randn(count, 10, generator=generator)
        wrong = first_stage.argmin(1, keepdim=True)
        marked = torch.where(torch.rand(count, 1, generator=generator) < flipped, wrong, best)
        return x, torch.zeros(count, 10).scatter(1, marked, 1.0), first_stage

    def mrr(epochs, seed):
        generator = torch.Generator().manual_seed(seed)
        x, labels, first_stage = lists(generator, 30, flipped=0.45)
        d = easiness(first_stage, labels, heuristic="normalized")
        weights = torch.zeros(5, requires_grad=True)
        optimizer = torch.optim.SGD([weights], lr=1.0)
        for epoch in range(20):
            optimizer.zero_grad()
            w = curriculum_weights(d, epoch, epochs) if epochs else None
            LOSSES["ranknet"](x @ weights, labels, None, w).backward()
            optimizer.step()
        test_x, test_labels, _ = lists(generator, 300, flipped=0.0)
        return -float(LOSSES["approxmrr"]((test_x @ weights).detach(), test_labels, temperature=1e-5))

    gains = [mrr(20, seed) - mrr(0, seed) for seed in range(5)]
    assert sum(gains) / 5 > 0.01
    assert min(gains) > -0.02
