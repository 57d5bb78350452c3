"""E2Rank's loss is its two parts, each over its own lists."""

import math

import pytest
import torch

from lorank.errors import UsageError
from lorank.ranking.losses import loss

SCORES = torch.tensor([[2.0, 0.5, -1.0], [0.3, 1.2, 0.1], [0.0, 1.0, 4.0]], dtype=torch.float64)
LABELS = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [2.0, 1.0, 0.0]], dtype=torch.float64)
MASK = torch.ones(3, 3, dtype=torch.bool)
LISTWISE = torch.tensor([[False] * 3, [False] * 3, [True, True, False]])


def test_plain_lists_are_contrasted_and_prompts_learn_pairs_of_their_own_documents():
    value = loss("e2rank")(SCORES, LABELS, MASK, listwise=LISTWISE)
    contrast = [
        -math.log(math.exp(row[i] / 0.6) / sum(math.exp(s / 0.6) for s in row))
        for row, i in ((SCORES[0].tolist(), 0), (SCORES[1].tolist(), 1))
    ]
    pair = math.log1p(math.exp(-0.5 * (0.0 - 1.0)))
    assert float(value) == pytest.approx(sum(contrast) / 2 + 2 * pair)


def test_each_part_alone_is_the_loss_that_it_is_called():
    none = torch.zeros_like(LISTWISE)
    plain = loss("e2rank", temperature=0.6)(SCORES, LABELS, MASK, listwise=none)
    torch.testing.assert_close(plain, loss("softmax", temperature=0.6)(SCORES, LABELS, MASK))
    listwise = loss("e2rank", weight=3.0, sigma=0.7)(SCORES, LABELS, MASK, listwise=~none)
    torch.testing.assert_close(listwise, 3 * loss("ranknet", sigma=0.7)(SCORES, LABELS, MASK))
    contrast = loss("e2rank", weight=0.0)(SCORES, LABELS, MASK, listwise=LISTWISE)
    torch.testing.assert_close(contrast, loss("softmax", temperature=0.6)(SCORES[:2], LABELS[:2], MASK[:2]))


def test_the_documents_of_other_lists_are_no_pairs_of_a_prompt():
    scores = SCORES.clone().requires_grad_()
    loss("e2rank")(scores, LABELS, MASK, listwise=LISTWISE).backward()
    assert scores.grad[2, 2] == 0  # exact: it is in no pair
    assert (scores.grad[2, :2] != 0).all()


@pytest.mark.parametrize(
    "options", [{"weight": -1.0}, {"temperature": 0.0}, {"sigma": 0.0}, {"feedback": 0}, {"words": 0}]
)
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(UsageError):
        loss("e2rank", **options)
