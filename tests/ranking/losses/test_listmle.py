"""ListMLE and p-ListMLE against Plackett and Luce's model written out."""

import math
from itertools import permutations

import pytest
import torch

from lorank.ranking.losses.listmle import listmle, p_listmle
from lorank.ranking.losses.softmax import softmax


def row(*values):
    return torch.tensor([values], dtype=torch.float64)


def plackett_luce(scores_in_order):
    """The likelihood of an order: draw the next document by softmax among those left."""
    likelihood = 1.0
    for i, s in enumerate(scores_in_order):
        likelihood *= math.exp(s) / sum(math.exp(t) for t in scores_in_order[i:])
    return likelihood


SCORES = (0.3, -1.1, 2.0, 0.7)


@pytest.mark.parametrize("labels", list(permutations((3, 2, 1, 0)))[::5])
def test_listmle_is_the_likelihood_of_the_ideal_order(labels):
    ideal = [s for _, s in sorted(zip(labels, SCORES), reverse=True)]
    assert float(listmle(row(*SCORES), row(*labels))) == pytest.approx(-math.log(plackett_luce(ideal)))


def test_likelihoods_of_all_orders_sum_to_one():
    total = sum(math.exp(-float(listmle(row(*SCORES), row(*labels)))) for labels in permutations((3, 2, 1, 0)))
    assert total == pytest.approx(1)


def test_p_listmle_by_loops():
    labels, n = (1, 3, 0, 2), 4
    ideal = [s for _, s in sorted(zip(labels, SCORES), reverse=True)]
    expected = sum(
        (2 ** (n - r) - 1) / (2 ** (n - 1) - 1) * (math.log(sum(math.exp(t) for t in ideal[r - 1 :])) - s)
        for r, s in enumerate(ideal, 1)
    )
    assert float(p_listmle(row(*SCORES), row(*labels))) == pytest.approx(expected)


def test_documents_of_one_grade_compete_with_their_whole_grade():
    everyone = math.log(sum(math.exp(s) for s in SCORES))
    low = math.log(math.exp(SCORES[1]) + math.exp(SCORES[3]))
    expected = (everyone - SCORES[0]) + (everyone - SCORES[2]) + (low - SCORES[1]) + (low - SCORES[3])
    assert float(listmle(row(*SCORES), row(1, 0, 1, 0))) == pytest.approx(expected)
    a = [(2 ** (4 - r) - 1) / 7 for r in (1, 2, 3, 4)]
    high = (a[0] + a[1]) / 2 * ((everyone - SCORES[0]) + (everyone - SCORES[2]))
    rest = (a[2] + a[3]) / 2 * ((low - SCORES[1]) + (low - SCORES[3]))
    assert float(p_listmle(row(*SCORES), row(1, 0, 1, 0))) == pytest.approx(high + rest)


def test_without_the_last_grade_binary_labels_give_softmax_cross_entropy():
    labels = row(1, 0, 1, 0)
    assert float(listmle(row(*SCORES), labels, last_grade=False)) == pytest.approx(
        float(softmax(row(*SCORES), labels, target="labels"))
    )


def test_long_lists_stay_finite():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 1500, generator=generator, requires_grad=True)
    labels = torch.rand(2, 1500, generator=generator)
    value = p_listmle(scores, labels)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(scores.grad).all()
    assert float(p_listmle(row(1.0, 2.0), row(1, 0))) == pytest.approx(math.log1p(math.exp(1)))  # n = 2: a = 1, 0


def test_scores_far_apart_do_not_lose_the_tail():
    value = listmle(row(1000, 0, -1000), row(0, 1, 2))
    assert float(value) == pytest.approx(2000 + 1000)


def value_and_gradient(function, scores, *rest):
    scores = scores.clone().requires_grad_()
    value = function(scores, *rest)
    return value.detach(), torch.autograd.grad(value, scores)[0]


@pytest.mark.parametrize("function", [listmle, p_listmle])
def test_only_the_order_of_labels_matters(function):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(3, 40, generator=generator, dtype=torch.float64)
    labels = torch.randint(-2, 4, (3, 40), generator=generator).double()
    mask = torch.rand(3, 40, generator=generator) < 0.8
    expected = value_and_gradient(function, scores, labels, mask)
    for other in (labels * 7, labels * 1e9, labels * 0.3 - 1, labels.exp()):  # gaps, far apart, no whole numbers
        for part, whole in zip(value_and_gradient(function, scores, other, mask), expected):
            torch.testing.assert_close(part, whole)


@pytest.mark.parametrize("function", [listmle, p_listmle])
def test_a_list_of_scores_far_apart_changes_nothing_for_its_neighbour(function):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 40, generator=generator, dtype=torch.float64)
    labels = torch.randint(4, (2, 40), generator=generator).double()
    weights = torch.rand(2, 40, generator=generator, dtype=torch.float64)
    alone = value_and_gradient(function, scores[:1], labels[:1], None, weights[:1])[1]
    beside = value_and_gradient(function, scores * torch.tensor([[1.0], [1e4]]), labels, None, weights)[1]
    torch.testing.assert_close(beside[:1] * 2, alone)
