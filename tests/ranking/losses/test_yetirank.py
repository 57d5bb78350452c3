"""ltr-tricks: YetiRank and YetiLoss weights, StochasticRank's gradient, noise, and the three side by side."""

import math
from itertools import permutations

import pytest
import torch

from lorank.catalogue import METHODS
from lorank.ranking.losses import LOSSES, loss
from lorank.ranking.losses.core.lists import canonicalise, clean, normalized_gains
from lorank.ranking.losses.core.noise import NOISES, average_over_noise, draw
from lorank.ranking.losses.stochasticrank import stochastic_rank_gradient
from lorank.ranking.losses.yetirank import MEASURES, Order

GRADES = 4


def row(*values):
    return torch.tensor([values], dtype=torch.float64)


def value_of(measure, labels):
    """A measure of a list of labels from the top down, written from its own definition."""
    n = len(labels)
    if measure == "ndcg":

        def dcg(order):
            return sum((2**y - 1) / math.log2(1 + r) for r, y in enumerate(order, 1))

        return dcg(labels) / dcg(sorted(labels, reverse=True))
    if measure == "mrr":
        return max((1 / r for r, y in enumerate(labels, 1) if y > 0), default=0.0)
    if measure == "map":
        hits = [sum(y > 0 for y in labels[:r]) / r for r in range(1, n + 1) if labels[r - 1] > 0]
        return sum(hits) / len(hits)
    total, going_on = 0.0, 1.0
    for r, y in enumerate(labels, 1):
        stop = (2**y - 1) / 2**GRADES
        total += going_on * stop / r
        going_on *= 1 - stop
    return total


def order_of(labels):
    labels = row(*labels)
    return Order(labels, normalized_gains(clean(torch.zeros_like(labels), labels), "exponential", None), GRADES)


@pytest.mark.parametrize("measure", sorted(MEASURES))
def test_ltr_tricks_weights_are_the_change_of_the_measure_when_neighbours_swap(measure):
    for labels in set(permutations((0, 3, 1, 0, 2))) | {(0, 0, 0, 2, 1), (1, 1, 0, 0, 1)}:
        weights = MEASURES[measure](order_of(labels))[0].tolist()
        for p, weight in enumerate(weights):
            swapped = list(labels)
            swapped[p], swapped[p + 1] = swapped[p + 1], swapped[p]
            expected = abs(value_of(measure, labels) - value_of(measure, swapped))
            assert weight == pytest.approx(expected, abs=1e-12)


def test_ltr_tricks_weights_vanish_for_swaps_that_the_measure_does_not_see():
    assert MEASURES["mrr"](order_of((0, 2, 0, 1, 0)))[0].tolist() == pytest.approx([1 / 2, 1 / 6, 0, 0])
    for measure in ("mrr", "map"):
        assert MEASURES[measure](order_of((2, 1)))[0].tolist() == [0]
    assert MEASURES["ndcg"](order_of((2, 2, 1)))[0, 0] == 0
    assert MEASURES["err"](order_of((1, 1, 2)))[0, 0] == 0


@pytest.mark.parametrize("noise", sorted(NOISES))
@pytest.mark.parametrize("measure", sorted(MEASURES))
def test_ltr_tricks_yetirank_by_loops(measure, noise):
    s, y = [0.4, -0.3, 1.1, 0.2], [1, 0, 0, 2]
    lists = canonicalise(clean(row(*s), row(*y)))
    drawn = draw(lists, 5, noise, None)
    expected = 0.0
    for sample in drawn[:, 0].tolist():
        documents = list(zip(lists.scores[0].tolist(), lists.labels[0].tolist(), sample))
        documents.sort(key=lambda d: -(d[0] + 0.7 * d[2]))
        for p in range(3):
            (s_a, y_a, _), (s_b, y_b, _) = documents[p : p + 2]
            labels = [int(d[1]) for d in documents]
            swapped = [*labels[:p], labels[p + 1], labels[p], *labels[p + 2 :]]
            weight = abs(value_of(measure, labels) - value_of(measure, swapped))
            margin = s_a - s_b if y_a > y_b else s_b - s_a
            expected += weight * math.log1p(math.exp(-margin)) / 5
    value = loss("yetirank", measure=measure, samples=5, noise=noise, beta=0.7, grades=GRADES)(row(*s), row(*y))
    assert float(value) == pytest.approx(expected)


def test_noise_has_its_law_and_a_generator_its_own_draws():
    lists = canonicalise(clean(torch.zeros(1, 4000), torch.zeros(1, 4000)))
    for kind, (mean, variance) in {
        "gumbel": (0.5772, math.pi**2 / 6),
        "logistic": (0, math.pi**2 / 3),
        "normal": (0, 1),
    }.items():
        drawn = draw(lists, 10, kind, torch.Generator().manual_seed(1))
        assert float(drawn.mean()) == pytest.approx(mean, abs=0.03)
        assert float(drawn.var()) == pytest.approx(variance, rel=0.05)
    generator = torch.Generator().manual_seed(2)
    assert not torch.equal(draw(lists, 2, "gumbel", generator), draw(lists, 2, "gumbel", generator))
    assert torch.equal(draw(lists, 2, "gumbel", None), draw(lists, 2, "gumbel", None))


def test_gumbel_noise_draws_orders_from_plackett_and_luce():
    scores = torch.tensor([1.5, 0.0, 0.7], dtype=torch.float64)
    lists = canonicalise(clean(scores[None], torch.zeros(1, 3).double()))
    winner = (lists.scores + draw(lists, 40_000, "gumbel", torch.Generator().manual_seed(0))).argmax(2)
    frequency = torch.bincount(winner.flatten(), minlength=3) / 40_000
    torch.testing.assert_close(frequency.double(), scores.sort(descending=True).values.softmax(0), atol=0.01, rtol=0)


def test_noisy_loss_is_the_mean_over_perturbed_scores():
    scores, labels = row(0.4, 0.3, 1.1), row(1, 0, 2)
    lists = canonicalise(clean(scores, labels))
    base = loss("softmax")
    each = [base(lists.scores + 0.5 * z, lists.labels) for z in draw(lists, 6, "gumbel", None)]
    torch.testing.assert_close(average_over_noise(base, samples=6, beta=0.5)(scores, labels), torch.stack(each).mean())
    torch.testing.assert_close(
        average_over_noise(base, beta=1e-9)(scores, labels), base(scores, labels), atol=1e-7, rtol=0
    )


def test_noisy_loss_stays_equivariant_and_differentiable():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 5, generator=generator, dtype=torch.float64).round().requires_grad_()
    labels, weights = row(1, 0, 0, 2, 1).expand(2, 5), torch.rand(2, 5, generator=generator, dtype=torch.float64)
    function = average_over_noise(loss("approxndcg", temperature=0.5))
    order = torch.tensor([3, 0, 4, 2, 1])
    (gradient,) = torch.autograd.grad(function(scores, labels, None, weights), scores)
    shuffled = scores[:, order].detach().requires_grad_()
    (moved,) = torch.autograd.grad(function(shuffled, labels[:, order], None, weights[:, order]), shuffled)
    torch.testing.assert_close(moved, gradient[:, order])
    apart = torch.randn(2, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: function(s, labels, None, weights[:, 0]), apart)


# -- StochasticRank


def test_ltr_tricks_stochasticrank_on_two_documents_is_exact():
    """E nDCG = low + (1 - low) Phi((s_1 - s_2) / (sigma sqrt 2)), low = 1 / log2(3)."""
    gap, sigma = 0.6, 0.8
    gradient = stochastic_rank_gradient(
        row(gap, 0), row(1, 0), sigma=sigma, samples=20_000, generator=torch.Generator().manual_seed(0)
    )
    spread = sigma * math.sqrt(2)
    slope = (1 - 1 / math.log2(3)) * math.exp(-((gap / spread) ** 2) / 2) / math.sqrt(2 * math.pi) / spread
    assert gradient[0].tolist() == pytest.approx([-slope, slope], rel=0.02)


def test_ltr_tricks_stochasticrank_agrees_with_the_score_function_estimate():
    s, y = torch.tensor([0.2, 0.0, -0.5], dtype=torch.float64), (1, 2, 0)
    noise = torch.randn(200_000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    order = (s + noise).argsort(1, descending=True)
    values = torch.zeros(200_000, dtype=torch.float64)
    for permutation in permutations(range(3)):
        values[(order == torch.tensor(permutation)).all(1)] = value_of("ndcg", [y[i] for i in permutation])
    expected = -((values - values.mean()).unsqueeze(1) * noise).mean(0)
    gradient = stochastic_rank_gradient(s[None], row(*y), samples=5000, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(gradient[0], expected, atol=3e-3, rtol=0)


def test_stochasticrank_spares_padding_and_follows_the_order_given():
    scores, labels = row(0.4, 0.4, 1.1, 9.0), row(1, 1, 0, 3)
    mask = torch.tensor([[True, True, True, False]])
    gradient = stochastic_rank_gradient(scores, labels, mask)
    torch.testing.assert_close(gradient[:, :3], stochastic_rank_gradient(scores[:, :3], labels[:, :3]))
    assert gradient[0, 3] == 0
    assert gradient[0, 0] == gradient[0, 1]
    flipped = stochastic_rank_gradient(scores.flip(1), labels.flip(1), mask.flip(1))
    torch.testing.assert_close(flipped, gradient.flip(1))


def test_ltr_tricks_side_by_side_on_planted_lists():
    """One table: a linear ranker under each trick; all beat where they start and come close to the planted order."""
    assert METHODS["ltr-tricks"].location.endswith("yetirank:yetirank")
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(60, 12, 6, generator=generator)
    planted = features @ torch.tensor([1.0, -1.0, 0.5, 0.0, 0.0, 0.0])
    quality = planted + 0.3 * torch.randn(60, 12, generator=generator)
    labels = (quality > 0.5).float() + (quality > 1.5).float()

    def ndcg(scores):
        return -float(LOSSES["approxndcg"](scores, labels, temperature=1e-5))

    def by(function):
        def gradient(scores):
            scores = scores.detach().requires_grad_()
            return torch.autograd.grad(function(scores, labels), scores)[0]

        return gradient

    table = {}
    for name, gradient in {
        "lambdamart": by(loss("lambda", weighting="lambdarank")),
        "yetirank": by(loss("yetirank")),
        "yetiloss-map": by(loss("yetirank", measure="map")),
        "stochasticrank": lambda scores: stochastic_rank_gradient(scores, labels, samples=4),
    }.items():
        weights = torch.zeros(6, requires_grad=True)
        optimizer = torch.optim.Adam([weights], lr=0.1)
        for _ in range(60):
            optimizer.zero_grad()
            scores = features @ weights
            scores.backward(gradient(scores))
            optimizer.step()
        table[name] = ndcg((features @ weights).detach())
    assert min(table.values()) > ndcg(planted) - 0.02, table
