"""The sides of benchmarks/losses.py compute the same thing: allRank's definitions, sentence-transformers' classes."""

import importlib.util
from pathlib import Path

import pytest
import torch

from lorank.ranking.losses import loss


@pytest.fixture(scope="module")
def sides():
    path = Path(__file__).resolve().parents[3] / "benchmarks" / "losses.py"
    spec = importlib.util.spec_from_file_location("losses_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def batch(lists=3, size=20):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(lists, size, generator=generator), torch.randint(5, (lists, size), generator=generator).float()


def value_and_gradient(function, scores, labels):
    scores = scores.clone().requires_grad_()
    value = function(scores, labels)
    (gradient,) = torch.autograd.grad(value, scores)
    return value.detach(), gradient


def same(ours, theirs, scores, labels, factor=1.0):
    for one, other in zip(value_and_gradient(ours, scores, labels), value_and_gradient(theirs, scores, labels)):
        torch.testing.assert_close(one * factor, other, rtol=1e-4, atol=1e-6)


def test_lambda_is_allranks_sum_over_all_lists(sides):
    same(loss("lambda"), sides.allrank_lambda, *batch(), factor=3)


def test_ranknet_is_allranks_mean_over_the_pairs_of_a_list(sides):
    same(loss("ranknet"), sides.allrank_ranknet, *batch(lists=1))


def test_listnet_is_allranks_cross_entropy_of_softmaxes(sides):
    same(loss("softmax", target="softmax"), sides.allrank_listnet, *batch())


def test_neuralndcg_is_allranks(sides):
    same(loss("neuralndcg"), sides.allrank_neural_ndcg, *batch())


def test_listmle_is_allranks_without_ties(sides):
    scores, _ = batch(size=9)
    labels = torch.rand(3, 9, generator=torch.Generator().manual_seed(1)).argsort(1).float()
    same(loss("listmle"), sides.allrank_listmle, scores, labels)


def test_approxndcg_is_allranks_with_ranks_half_a_place_lower(sides):
    """allRank's soft ranks count a document against itself, which adds sigma(0)."""
    scores, labels = batch(size=4)
    difference = scores.unsqueeze(1) - scores.unsqueeze(2)
    ranks = 0.5 + difference.sigmoid().sum(2)
    place = torch.arange(1, 5).float()
    gains = 2**labels - 1
    ideal = (gains.sort(1, descending=True).values / torch.log2(1 + place)).sum(1, keepdim=True)
    theirs = -(gains / ideal / torch.log2(1.5 + ranks)).sum(1).mean()
    ours = -(gains / ideal / torch.log2(1 + ranks)).sum(1).mean()
    torch.testing.assert_close(sides.allrank_approx_ndcg(scores, labels), theirs)
    torch.testing.assert_close(loss("approxndcg")(scores, labels), ours)


@pytest.mark.parametrize("row", ["lambda", "ranknet", "softmax"])
def test_losses_are_those_of_sentence_transformers(sides, row):
    pytest.importorskip("sentence_transformers")
    made = sides.ROWS[row]
    scores, labels = batch(lists=1)
    ours, theirs = (value_and_gradient(made[side](), scores, labels) for side in ("lorank", "sentence-transformers"))
    factor = theirs[0] / ours[0]  # they take the mean over pairs, or the sum
    torch.testing.assert_close(ours[1] * factor, theirs[1], rtol=1e-4, atol=1e-6)
