"""Pairs of long graded lists, grade by grade: what all pairs give, and when it is left to them."""

import pytest
import torch

from lorank.ranking.losses import loss
from lorank.ranking.losses.core.grade_blocks import logistic_by_grade, suits
from lorank.ranking.losses.core.lists import clean
from lorank.ranking.losses.core.pairs import ordered_pair_weights, pairwise


def batch(size=300, grades=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(3, size, generator=generator, dtype=torch.float64)
    labels = torch.randint(grades, (3, size), generator=generator).double()
    mask = torch.rand(3, size, generator=generator) < 0.9
    mask[2] = False
    return scores, labels, mask, torch.rand(3, size, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("sigma", [0.5, 3.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_value_and_gradient_are_those_of_all_pairs(sigma, weighted):
    scores, labels, mask, weights = batch()
    scores.requires_grad_()
    lists = clean(scores, labels, mask, weights if weighted else None)
    winners, each = ordered_pair_weights(lists)
    expected, value = pairwise(lists.scores, winners, each, sigma), logistic_by_grade(lists, sigma)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(
        torch.autograd.grad(value.sum(), scores, retain_graph=True)[0], torch.autograd.grad(expected.sum(), scores)[0]
    )


def test_scores_that_spread_far_short_lists_and_many_grades_are_left_to_all_pairs():
    scores, labels, mask, _ = batch()
    assert suits(clean(scores, labels, mask), 1.0)
    assert not suits(clean(scores * 20, labels, mask), 1.0)
    assert not suits(clean(scores, labels, mask), 20.0)
    assert not suits(clean(scores[:, :100], labels[:, :100], mask[:, :100]), 1.0)
    assert not suits(clean(scores, scores.abs(), mask), 1.0)


def test_ranknet_is_accurate_at_the_edge_of_the_spread():
    scores = torch.linspace(-29.9, 29.9, 256).unsqueeze(0)
    labels = (torch.arange(256) % 3).float().unsqueeze(0)
    single, double = scores.clone().requires_grad_(), scores.double().requires_grad_()
    value, exact = loss("ranknet")(single, labels), loss("ranknet")(double, labels)
    torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=0)
    value.backward()
    exact.backward()
    torch.testing.assert_close(single.grad.double(), double.grad, rtol=1e-4, atol=1e-9)


def test_ranknet_on_long_lists_is_computed_in_single_precision_within_autocast():
    scores, labels, mask, _ = batch()
    scores, function = scores.float().requires_grad_(), loss("ranknet")
    exact = function(scores, labels, mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = function(scores, labels, mask)
    assert value == exact
    assert torch.equal(torch.autograd.grad(value, scores)[0], torch.autograd.grad(exact, scores)[0])


def test_permuting_a_long_list_permutes_its_gradient():
    scores, labels, mask, weights = batch()
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    one, other = scores.clone().requires_grad_(), scores[:, order].clone().requires_grad_()
    loss("ranknet")(one, labels, mask, weights).backward()
    loss("ranknet")(other, labels[:, order], mask[:, order], weights[:, order]).backward()
    torch.testing.assert_close(other.grad, one.grad[:, order])
