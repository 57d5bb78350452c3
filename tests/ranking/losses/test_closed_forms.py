"""Each loss against its formula on small lists and against its definition written out as loops."""

import math
from itertools import product

import pytest
import torch

from lorank.ranking.losses import LOSSES, loss
from lorank.ranking.losses.core.pairs import BLOCK, ordered_pairs

bce, softmax, ranknet, lambda_loss = (LOSSES[name] for name in ("bce", "softmax", "ranknet", "lambda"))
WEIGHTINGS = ["lambdarank", "ndcg1", "ndcg2", "ndcg2pp"]


def row(*values):
    return torch.tensor([values], dtype=torch.float64)


def close(value, expected):
    torch.testing.assert_close(value, torch.as_tensor(expected, dtype=value.dtype))


def softplus(x):
    return math.log1p(math.exp(x))


def random_batch(lists=3, size=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(lists, size, generator=generator, dtype=torch.float64)
    return scores, torch.randint(4, (lists, size), generator=generator).double()


# -- bce


def test_bce_on_two_documents():
    close(bce(row(2, -1), row(1, 0)), (softplus(-2) + softplus(-1)) / 2)


def test_bce_takes_probabilities_and_clips_grades():
    p, s = 0.3, 0.7
    close(bce(row(s, 0), row(p, 1)), (p * softplus(-s) + (1 - p) * softplus(s) + math.log(2)) / 2)
    close(bce(row(2, -1, 0), row(3, 0, 1)), bce(row(2, -1, 0), row(1, 0, 1)))


def test_bce_threshold_makes_targets_binary():
    close(bce(row(2, -1, 0), row(3, 1, 0), threshold=2), bce(row(2, -1, 0), row(1, 0, 0)))


def test_bce_is_least_at_the_log_odds():
    scores = row(math.log(0.3 / 0.7), math.log(0.9 / 0.1)).requires_grad_()
    bce(scores, row(0.3, 0.9)).backward()
    close(scores.grad, row(0, 0))


def test_bce_can_keep_lists_that_only_calibrate():
    silent = row(1, 1)
    assert bce(row(2, -1), silent) == 0
    close(bce(row(2, -1), silent, keep_equal=True), (softplus(-2) + softplus(1)) / 2)
    single = torch.tensor([[0.5], [2.0]], dtype=torch.float64)
    close(bce(single, torch.tensor([[1.0], [0.0]]), keep_equal=True), (softplus(-0.5) + softplus(2.0)) / 2)
    empty = torch.zeros(1, 2, dtype=torch.bool)
    assert bce(row(2, -1), silent, empty, keep_equal=True) == 0


def test_bce_is_torchs_mean_over_a_full_list():
    scores, labels = random_batch(lists=1)
    close(bce(scores, labels), torch.nn.functional.binary_cross_entropy_with_logits(scores, labels.clamp(max=1)))


# -- softmax


def test_softmax_with_one_relevant_document_is_cross_entropy():
    scores, _ = random_batch()
    relevant = torch.tensor([2, 0, 6])
    labels = torch.nn.functional.one_hot(relevant, 7).double()
    for target in ("normalized", "labels"):
        close(
            softmax(scores, labels, target=target, temperature=0.5),
            torch.nn.functional.cross_entropy(scores / 0.5, relevant),
        )


@pytest.mark.parametrize("target", ["normalized", "softmax", "labels"])
def test_softmax_by_hand(target):
    scores, labels = (0.2, 1.4, -0.3), (2, 0, 1)
    total = sum(math.exp(s) for s in scores)
    wanted = {
        "normalized": [y / 3 for y in labels],
        "labels": labels,
        "softmax": [math.exp(y) / sum(math.exp(z) for z in labels) for y in labels],
    }[target]
    close(
        softmax(row(*scores), row(*labels), target=target),
        -sum(p * math.log(math.exp(s) / total) for p, s in zip(wanted, scores)),
    )


def test_softmax_is_least_where_shares_are_the_target():
    scores = row(math.log(2), math.log(1), math.log(1)).requires_grad_()
    softmax(scores, row(2, 1, 1)).backward()
    close(scores.grad, row(0, 0, 0))


def test_softmax_ignores_a_shift_of_the_scores():
    scores, labels = random_batch()
    close(softmax(scores + 1000, labels), softmax(scores, labels))


# -- ranknet


def test_ranknet_on_one_pair():
    close(ranknet(row(1, 3), row(2, 0), sigma=0.5), softplus(1.0))


@pytest.mark.parametrize("seed", range(3))
def test_ranknet_by_loops(seed):
    scores, labels = random_batch(seed=seed)
    lists = []
    for s, y in zip(scores.tolist(), labels.tolist()):
        pairs = [softplus(s[j] - s[i]) for i, j in product(range(7), repeat=2) if y[i] > y[j]]
        lists.append(sum(pairs) / len(pairs))
    close(ranknet(scores, labels), sum(lists) / len(lists))


def test_ranknet_weighs_a_pair_by_its_better_document():
    weights = row(0.5, 7.0, 2.0)
    expected = (0.5 * softplus(-1) + 0.5 * softplus(1) + 2.0 * softplus(-2)) / 3
    close(ranknet(row(1, 0, 2), row(2, 0, 1), None, weights), expected)


def test_binary_labels_make_ranknet_the_same_as_its_pairs_listed():
    scores, labels = random_batch(size=30)
    labels = (labels == 3).double()
    gaps = (scores.unsqueeze(1) - scores.unsqueeze(2))[(labels.unsqueeze(2) > labels.unsqueeze(1))]
    per_list = torch.nn.functional.softplus(gaps).split(((labels == 1).sum(1) * (labels == 0).sum(1)).tolist())
    signal = [part.mean() for part in per_list if len(part)]
    close(ranknet(scores, labels), torch.stack(signal).mean())


# -- lambda


def discount(rank, k=None):
    return 1 / math.log2(1 + rank) if k is None or rank <= k else 0.0


def lambda_by_loops(s, y, weighting, k=None, sigma=1.0, mu=10.0, gain=lambda label: 2**label - 1):
    """The definition in the module's docstring for one list of distinct scores."""
    n = len(s)
    rank = [1 + sum(s[j] > s[i] for j in range(n)) for i in range(n)]
    ideal = sum(gain(label) * discount(r, k) for r, label in enumerate(sorted(y, reverse=True), 1))
    g = [gain(label) / ideal for label in y]
    total = 0.0
    for i, j in product(range(n), repeat=2):
        if i == j or (weighting != "ndcg1" and y[i] <= y[j]) or (k is not None and min(rank[i], rank[j]) > k):
            continue
        apart, near = abs(rank[i] - rank[j]), abs(discount(rank[i], k) - discount(rank[j], k))
        delta = discount(apart) - discount(apart + 1)
        weight = {
            "lambdarank": abs(g[i] - g[j]) * near,
            "ndcg1": g[i] * discount(rank[i], k),
            "ndcg2": abs(g[i] - g[j]) * delta,
            "ndcg2pp": abs(g[i] - g[j]) * (mu * delta + near),
        }[weighting]
        total += weight * math.log2(1 + math.exp(-sigma * (s[i] - s[j])))
    return total


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("options", [{}, {"k": 3}, {"k": 1, "sigma": 2.0}, {"mu": 0.5}, {"k": 100}])
def test_lambda_by_loops(weighting, options):
    scores, labels = random_batch()
    expected = [lambda_by_loops(s, y, weighting, **options) for s, y in zip(scores.tolist(), labels.tolist())]
    close(lambda_loss(scores, labels, weighting=weighting, **options), sum(expected) / 3)


def test_lambda_with_linear_gain():
    scores, labels = random_batch(lists=1)
    close(
        lambda_loss(scores, labels, weighting="lambdarank", gain="linear"),
        lambda_by_loops(scores[0].tolist(), labels[0].tolist(), "lambdarank", gain=lambda label: label),
    )


def test_lambdarank_weights_are_the_change_of_ndcg_when_two_documents_swap():
    scores, labels = random_batch(lists=1)
    s, y = scores[0].tolist(), labels[0].tolist()
    order = sorted(range(7), key=lambda i: -s[i])

    def ndcg(ranking):
        ideal = sum((2**label - 1) * discount(r) for r, label in enumerate(sorted(y, reverse=True), 1))
        return sum((2 ** y[i] - 1) * discount(r) for r, i in enumerate(ranking, 1)) / ideal

    expected = 0.0
    for i, j in product(range(7), repeat=2):
        if y[i] > y[j]:
            swapped = [{i: j, j: i}.get(d, d) for d in order]
            expected += abs(ndcg(order) - ndcg(swapped)) * math.log2(1 + math.exp(s[j] - s[i]))
    close(lambda_loss(scores, labels, weighting="lambdarank"), expected)


@pytest.mark.parametrize("weighting", ["lambdarank", "ndcg2", "ndcg2pp"])
def test_lambda_on_one_pair_is_weighted_logistic(weighting):
    near, delta = 1 - 1 / math.log2(3), 1 - 1 / math.log2(3)
    weight = {"lambdarank": near, "ndcg2": delta, "ndcg2pp": 10 * delta + near}[weighting]
    close(lambda_loss(row(1, 3), row(1, 0), weighting=weighting), weight * softplus(2) / math.log(2))


@pytest.mark.parametrize("weighting", ["ndcg1", "ndcg2"])
def test_the_bounding_losses_are_above_the_cost_of_ndcg(weighting):
    """LambdaLoss's point: sum of G_i - G_i/D_i is bounded by NDCG-Loss1 and NDCG-Loss2 over all lists."""
    for seed in range(20):
        scores, labels = random_batch(lists=1, seed=seed)
        s, y = scores[0].tolist(), labels[0].tolist()
        ideal = sum((2**label - 1) * discount(r) for r, label in enumerate(sorted(y, reverse=True), 1))
        rank = [1 + sum(other > own for other in s) for own in s]
        ndcg = sum((2**label - 1) * discount(r) for r, label in zip(rank, y)) / ideal
        assert 1 - ndcg <= lambda_loss(scores, labels, weighting=weighting) + 1e-9


def test_equal_scores_still_pull_relevant_documents_up():
    scores = torch.zeros(1, 5, dtype=torch.float64, requires_grad=True)
    labels = row(0, 1, 0, 2, 0)
    for weighting in WEIGHTINGS:
        (gradient,) = torch.autograd.grad(lambda_loss(scores, labels, weighting=weighting), scores)
        assert gradient[0, 3] < 0
        assert gradient[0, 3] < gradient[0, 1]
        assert (gradient[0, [0, 2, 4]] > 0).all()
        close(gradient[0, 0], gradient[0, 4])


# -- pairs, whole


def test_lists_larger_than_a_block_give_what_small_ones_give():
    size = int(BLOCK**0.5) + 1
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(2, size, generator=generator, dtype=torch.float64)
    labels = torch.randint(5, (2, size), generator=generator).double()
    for name in ("ranknet", "lambda"):
        both = loss(name)(scores, labels)
        close(both, (loss(name)(scores[:1], labels[:1]) + loss(name)(scores[1:], labels[1:])) / 2)


def test_number_of_ordered_pairs_by_counting():
    from lorank.ranking.losses.core.lists import clean

    scores, labels = random_batch()
    mask = torch.rand(labels.shape, generator=torch.Generator().manual_seed(1)) < 0.7
    expected = [sum(a > b for a in y[m] for b in y[m]) for y, m in zip(labels, mask)]
    assert ordered_pairs(clean(scores, labels, mask)).tolist() == [int(count) for count in expected]
