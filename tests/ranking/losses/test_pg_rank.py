"""neural-pg-rank: its gradient against enumeration, its baseline's variance, its rewards against their definitions."""

import math
from itertools import permutations
from statistics import median

import pytest
import torch

from lorank.errors import UsageError
from lorank.ranking.losses import loss
from lorank.ranking.policies.order_rewards import ORDER_REWARDS
from lorank.ranking.policies.plackett_luce import choice_log_probs

GRADES = 4.0


def reward_of(name, labels, k=None):
    """A reward of labels from the top down, written from its own definition."""
    k = len(labels) if k is None else k
    if name == "ndcg":

        def dcg(order):
            return sum((2**y - 1) / math.log2(1 + r) for r, y in enumerate(order[:k], 1))

        return dcg(labels) / dcg(sorted(labels, reverse=True))
    if name == "rr":
        return max((1 / r for r, y in enumerate(labels[:k], 1) if y > 0), default=0.0)
    if name == "ap":
        hits = [sum(y > 0 for y in labels[:r]) / r for r in range(1, k + 1) if labels[r - 1] > 0]
        return sum(hits) / sum(y > 0 for y in labels)
    total, going_on = 0.0, 1.0
    for r, y in enumerate(labels[:k], 1):
        stop = (2**y - 1) / 2**GRADES
        total += going_on * stop / r
        going_on *= 1 - stop
    return total


def expected_reward(scores, labels, name, k=None):
    """The expectation over all orders, with its graph."""
    total = torch.zeros((), dtype=scores.dtype)
    for order in permutations(range(len(labels))):
        chance = choice_log_probs(scores[list(order)]).sum().exp()
        total = total + chance * reward_of(name, [labels[i] for i in order], k)
    return total


def exact_gradient(scores, labels, name, k=None):
    scores = scores.clone().requires_grad_()
    value = expected_reward(scores, labels, name, k)
    value.backward()
    return float(value.detach()), scores.grad


def estimates(scores, labels, count, samples=1, **options):
    """``count`` independent estimates of the gradient of the expected reward, [count, list], and the mean value."""
    rows = scores.repeat(count, 1).requires_grad_()
    value = loss("pg-rank", samples=samples, k=None, **options)(
        rows, torch.tensor(labels, dtype=scores.dtype).repeat(count, 1), noise_seed=torch.tensor(11)
    )
    value.backward()
    return -count * rows.grad, -float(value.detach())


SCORES = torch.tensor([0.4, -0.7, 1.1, 0.0, -0.2], dtype=torch.float64)
LABELS = (1, 3, 0, 0, 2)


@pytest.mark.parametrize("size", [2, 3, 4, 5])
@pytest.mark.parametrize("reward", sorted(ORDER_REWARDS))
def test_the_gradient_is_that_of_the_expectation_over_all_orders(reward, size):
    scores, labels = SCORES[:size], LABELS[:size]
    value, gradient = exact_gradient(scores, labels, reward)
    found, mean = estimates(scores, labels, 8_000, samples=4, reward=reward)
    error = found.std(0) / math.sqrt(len(found))
    assert (found.mean(0) - gradient).abs().max() < 6 * error.max() + 1e-9
    assert mean == pytest.approx(value, abs=0.02)


@pytest.mark.parametrize("advantage", ["none", "leave-one-out"])
@pytest.mark.parametrize("k", [1, 2])
def test_cutoffs_and_baselines_leave_the_gradient_unbiased(advantage, k):
    _, gradient = exact_gradient(SCORES[:4], LABELS[:4], "ndcg", k)
    rows = SCORES[:4].repeat(8_000, 1).requires_grad_()
    labels = torch.tensor(LABELS[:4]).double().repeat(8_000, 1)
    loss("pg-rank", samples=4, k=k, advantage=advantage)(rows, labels, noise_seed=torch.tensor(5)).backward()
    found = -len(rows) * rows.grad
    error = found.std(0) / math.sqrt(len(found))
    assert (found.mean(0) - gradient).abs().max() < 6 * error.max()


@pytest.mark.parametrize("seed", [0, 1])
def test_the_baseline_of_the_other_orders_lowers_the_variance(seed):
    scores = torch.randn(5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    with_baseline, without = (
        float(estimates(scores, LABELS, 4_000, samples=8, advantage=name)[0].var(0).sum())
        for name in ("leave-one-out", "none")
    )
    assert with_baseline < without / 2


def test_a_seed_draws_the_same_orders_and_another_seed_draws_others():
    scores, labels = SCORES.unsqueeze(0), torch.tensor([LABELS]).double()
    one, same, other = (loss("pg-rank")(scores, labels, noise_seed=torch.tensor(seed)) for seed in (1, 1, 2))
    torch.testing.assert_close(one, same)
    assert abs(float(one - other)) > 1e-6


def test_permuting_documents_that_differ_permutes_the_gradient():
    labels, order = torch.tensor([LABELS]).double(), torch.tensor([3, 0, 4, 1, 2])
    grads = []
    for at in (torch.arange(5), order):
        rows = SCORES[at].unsqueeze(0).requires_grad_()
        loss("pg-rank")(rows, labels[:, at], noise_seed=torch.tensor(4)).backward()
        grads.append(rows.grad[0])
    torch.testing.assert_close(grads[1], grads[0][order])


def test_entropy_flattens_a_sure_policy_and_temperature_makes_orders_more_random():
    rows = torch.tensor([[6.0, 0.0, 0.0]], requires_grad=True)
    loss("pg-rank", entropy=50.0)(rows, torch.tensor([[1.0, 0.0, 0.0]]), noise_seed=torch.tensor(0)).backward()
    assert rows.grad[0, 0] > 0 > rows.grad[0, 1]
    wrong = (torch.tensor([[6.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 1.0]]))
    cold, hot = (loss("pg-rank", temperature=t, samples=400)(*wrong, noise_seed=torch.tensor(0)) for t in (1.0, 20.0))
    assert hot < cold


def test_weights_of_documents_multiply_their_terms():
    rows = torch.zeros(1, 3, dtype=torch.float64)
    labels, weights = (
        torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64),
        torch.tensor([[2.5, 1.0, 1.0]], dtype=torch.float64),
    )
    plain, weighed = (loss("pg-rank")(rows, labels, None, w, noise_seed=torch.tensor(0)) for w in (None, weights))
    torch.testing.assert_close(weighed, 2.5 * plain)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_linear_ranker_learns_the_planted_order(seed):
    generator = torch.Generator().manual_seed(seed)
    features, truth = torch.randn(64, 12, 6, generator=generator), torch.randn(6, generator=generator)
    labels = (features @ truth).argsort(1).argsort(1).div(3, rounding_mode="floor").float()
    weight = torch.zeros(6, requires_grad=True)
    optimizer = torch.optim.Adam([weight], lr=0.1)
    values = []
    for step in range(60):
        optimizer.zero_grad()
        value = loss("pg-rank")(features @ weight, labels, noise_seed=torch.tensor(step))
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    assert -values[0] < 0.7
    assert -values[-1] > 0.9


def far_off_lists(generator):
    """Lists of eight whose first document is relevant: mostly for its first feature, of which 3 in 20 have far less."""
    features = torch.randn(120, 8, 3, generator=generator)
    features[:, 0, 0] += 2.0
    features[:18, 0, 0] = -20.0
    return features


def test_in_domain_ndcg_rises_over_that_of_a_contrastive_loss_which_a_few_far_lists_lead_astray():
    reached = {"pg-rank": [], "softmax": []}
    for seed in (0, 1, 2):
        generator = torch.Generator().manual_seed(seed)
        train, test = far_off_lists(generator), far_off_lists(generator)
        labels = torch.eye(8)[:1].expand(120, 8)
        for name, values in reached.items():
            weight = torch.tensor([0.5, 1.0, 1.0], requires_grad=True)  # both begin as one ranker
            optimizer = torch.optim.Adam([weight], lr=0.05)
            for step in range(40):
                noise = {"noise_seed": torch.tensor(step)} if name == "pg-rank" else {}
                optimizer.zero_grad()
                loss(name)(train @ weight, labels, **noise).backward()
                optimizer.step()
            scores = (test @ weight).detach()
            rank = (scores > scores[:, :1]).sum(1) + 1
            values.append(float((1 / (1 + rank).log2()).mean()))
    assert median(reached["pg-rank"]) > median(reached["softmax"]) + 0.2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "samples must be above 0"),
        ({"reward": "ndgc"}, "did you mean 'ndcg'"),
        ({"advantage": "leave-one"}, "did you mean 'leave-one-out'"),
        ({"entropy": -1.0}, "entropy must be 0 or above"),
        ({"temperature": 0.0}, "temperature must be above 0"),
    ],
)
def test_wrong_options_are_refused_at_once(options, message):
    with pytest.raises(UsageError, match=message):
        loss("pg-rank", **options)
