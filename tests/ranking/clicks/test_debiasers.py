"""Each debiaser's own facts: expectations by enumeration, gradients, planted curves.

Catalogue: cet-pooling-bias, nested-feedback-ltr.
"""

from itertools import product

import numpy as np
import pytest
import torch

from lorank.errors import UsageError
from lorank.ranking.clicks import Propensities, SessionBuilder, Sessions, Simulator
from lorank.ranking.clicks.core.contrast import contrast_pairs
from lorank.ranking.clicks.core.debiased_loss import DebiasedLoss
from lorank.ranking.clicks.core.debiaser import ClickBatch, Evidence
from lorank.ranking.clicks.core.descent import CurveDescent
from lorank.ranking.clicks.core.nested import nested_gains
from lorank.ranking.clicks.debias import make_debiaser
from lorank.ranking.losses import loss

CURVE = [1.0, 0.5, 0.25]


def test_ips_is_the_loss_on_relevance_in_expectation_over_all_clicks():
    ips = make_debiaser("ips")
    ips.prepare(Evidence(3, curve=Propensities(np.array(CURVE), "given")))
    relevance, scores = torch.tensor([[1.0, 0.0, 1.0]]), torch.tensor([[0.3, -0.2, 0.9]])
    mask, positions = torch.ones(1, 3, dtype=torch.bool), torch.tensor([[1, 2, 3]])
    softmax = loss("softmax", target="labels")
    debiased = DebiasedLoss(softmax, frozenset(), ips, propensities=False)
    expected = torch.zeros(())
    for clicks in product([0.0, 1.0], repeat=3):
        chance = 1.0
        for click, r, p in zip(clicks, relevance[0].tolist(), CURVE):
            chance *= p * r if click else 1 - p * r
        expected += chance * debiased(scores, torch.tensor([clicks]), mask, positions=positions)
    assert expected == pytest.approx(float(softmax(scores, relevance, mask)), rel=1e-5)


def test_ips_prefers_what_each_impression_states_and_clips():
    ips = make_debiaser("ips", most=3.0)
    ips.prepare(Evidence(2, curve=Propensities(np.array([1.0, 0.5]), "given")))
    grid = torch.ones(1, 2)
    given = ClickBatch(grid, grid, grid > 0, torch.tensor([[1, 2]]), torch.tensor([[0.1, 0.0]]))
    assert ips.weigh(given).clicked.tolist() == [[3.0, 2.0]]  # exact: clipped, and 1 / .5
    with pytest.raises(UsageError, match="ips takes propensities"):
        make_debiaser("ips").prepare(Evidence(3))


def test_the_written_gradient_is_that_of_the_cross_entropy():
    descent = CurveDescent(4, lr=0.1)
    descent.values = torch.tensor([0.3, -0.1, 0.2, 0.0])
    positions = torch.tensor([[1, 2, 3], [4, 2, 0]])
    targets = torch.tensor([[1.0, 0.0, 2.0], [0.5, 0.0, 0.0]])
    mask = torch.ones(2, 3, dtype=torch.bool)
    descent.learn(ClickBatch(torch.zeros(2, 3), targets, mask, positions), targets, 1.0)
    theta = descent.values.clone().requires_grad_()
    value = torch.zeros(())
    for row in range(2):
        at = [k - 1 for k in positions[row].tolist() if k > 0]
        value = value - (targets[row, : len(at)] * theta[at].log_softmax(0)).sum() / 2
    value.backward()
    assert torch.allclose(descent.gradient, theta.grad, atol=1e-6)


@pytest.mark.parametrize("seed", [0, 1])
def test_dla_finds_the_curve_where_the_ranker_knows_the_relevance(seed):
    rng = torch.Generator().manual_seed(seed)
    dla = make_debiaser("dla", lr=0.05)
    dla.prepare(Evidence(5))
    curve = 1 / torch.arange(1, 6)
    for step in range(600):
        attraction = torch.rand(64, 5, generator=rng) * 0.8 + 0.2
        clicks = (torch.rand(64, 5, generator=rng) < attraction * curve).float()
        mask, positions = torch.ones(64, 5, dtype=torch.bool), torch.arange(1, 6).expand(64, 5)
        dla.learn(ClickBatch(attraction.log(), clicks, mask, positions), 1.0)
        dla.step((step + 1) / 600)
    assert dla.curve() == pytest.approx(curve.tolist(), rel=0.1)


@pytest.mark.parametrize("seed", [0, 1])
def test_cet_finds_the_selection_and_discounts_hidden_positives(seed):
    rng = torch.Generator().manual_seed(seed)
    cet = make_debiaser("cet", lr=0.05, warmup=0.0)
    cet.prepare(Evidence(8))
    selection = torch.tensor([1.0, 0.7, 0.5, 0.5, 0.3, 0.3, 0.3, 0.3])  # one value a bucket: 1, 2, 3-4, 5-8
    positions = torch.arange(1, 9).expand(64, 8)
    mask = torch.ones(64, 8, dtype=torch.bool)
    for step in range(800):
        relevant = torch.rand(64, 8, generator=rng) < 0.3
        labels = (relevant & (torch.rand(64, 8, generator=rng) < selection)).float()
        cet.learn(ClickBatch(torch.where(relevant, 2.0, -2.0), labels, mask, positions), 1.0)
        cet.step((step + 1) / 800)
    assert cet.curve() == pytest.approx([1.0, 0.7, 0.5, 0.3], rel=0.2)
    scores = torch.tensor([[2.0, -2.0, 2.0, -2.0, 2.0, -2.0, -2.0, -2.0]])
    labels = torch.tensor([[1.0] + [0.0] * 7])
    shift = cet.weigh(ClickBatch(scores, labels, mask[:1], positions[:1])).shift[0]
    hidden, others = shift[[2, 4]], shift[[1, 3, 5, 6, 7]]
    assert hidden.max() < others.min() - 1


def test_trust_counts_a_click_at_the_top_less():
    rng = np.random.default_rng(0)
    lists = {f"q{i}": list("abcd") for i in range(20)}
    attraction = {query: rng.choice([0.05, 0.9], 4) for query in lists}
    builder = SessionBuilder()
    for each in Simulator(lists, attraction, "trust", 4, "all").draw(20_000, rng):
        builder.add(each.query, each.documents, each.clicks)
    trust = make_debiaser("trust")
    trust.prepare(Evidence(4, builder.build()))
    worth = [1 / value for value in trust.curve()]
    assert worth[0] == pytest.approx(1)
    assert worth[1] > 1.5
    other = SessionBuilder()
    other.add("q", ["a"], [1])
    with pytest.raises(UsageError, match="two positions"):
        make_debiaser("trust").prepare(Evidence(1, other.build()))
    with pytest.raises(UsageError, match="click log"):
        make_debiaser("trust").prepare(Evidence(1))


def test_pair_learns_that_clicks_below_are_rarer():
    rng = torch.Generator().manual_seed(0)
    pair = make_debiaser("pair", rate=0.1)
    pair.prepare(Evidence(4))
    curve = 1 / torch.arange(1, 5)
    for step in range(200):
        attraction = torch.rand(64, 4, generator=rng)
        clicks = (torch.rand(64, 4, generator=rng) < attraction * curve).float()
        mask, positions = torch.ones(64, 4, dtype=torch.bool), torch.arange(1, 5).expand(64, 4)
        pair.learn(ClickBatch(attraction.log(), clicks, mask, positions), 1.0)
        pair.step(step / 200)
    found = pair.curve()
    assert sorted(found, reverse=True) == pytest.approx(found)
    assert found[3] < 0.8


def test_nested_gains_are_plain_rewards_without_second_lists():
    assert nested_gains([1, 0, 1], [None, [], None]) == [1.0, 0.0, 1.0]  # exact: copied
    assert nested_gains([1, 0], [[1, 1, 1], [0, 1]]) == pytest.approx([1 + 1 + 1 / 2 + 1 / 3, 1 / 2])
    assert nested_gains([0], [[1, 1]], [0.5, 0.1]) == pytest.approx([0.6])


def test_dla_settles_within_three_percent_where_the_ranker_knows_the_relevance():
    """One click and two other documents a list: a part of each list has the same minimum as the whole."""
    curve, errors = 1 / torch.arange(1, 6), []
    for seed in range(3):
        rng = torch.Generator().manual_seed(seed)
        dla = make_debiaser("dla", lr=0.05)
        dla.prepare(Evidence(5))
        for step in range(400):
            attraction = torch.rand(512, 5, generator=rng) * 0.8 + 0.2
            clicks = torch.rand(512, 5, generator=rng) < attraction * curve
            rows, own = clicks.nonzero(as_tuple=True)
            chosen = torch.zeros(len(rows), 5).scatter_(1, own[:, None], 1.0)
            drawn = torch.rand(len(rows), 5, generator=rng).masked_fill(chosen > 0, 2.0).argsort(1, descending=True)
            mask = torch.zeros(len(rows), 5, dtype=torch.bool).scatter_(1, drawn[:, :3], True)
            positions = torch.arange(1, 6).expand(len(rows), 5)
            dla.learn(ClickBatch(attraction.log()[rows], chosen, mask, positions), 1.0)
            dla.step((step + 1) / 400)
        errors.append(float((torch.tensor(dla.curve()) / curve - 1).abs()[1:].mean()))
    assert np.mean(errors) < 0.03


def swapped_log(sessions, rng, queries=40, relevance=(0.1, 0.4, 1.0)):
    """Lists of six in one order, two positions exchanged, looked at with probability 1 / k."""
    attraction = rng.choice(relevance, 6 * queries)
    rows, (first, second) = np.arange(sessions), rng.integers(6, size=(2, sessions))
    places = np.tile(np.arange(6), (sessions, 1))
    places[rows, first], places[rows, second] = second, first
    pairs = 6 * rng.integers(queries, size=(sessions, 1)) + places
    clicks = rng.random(pairs.shape) < attraction[pairs] / np.arange(1, 7)
    names = [(f"q{pair // 6}", f"d{pair % 6}") for pair in range(6 * queries)]
    return Sessions(pairs, clicks, np.ones_like(clicks), np.ones(sessions), names), attraction


def test_pairs_at_several_positions_say_the_curve_without_a_ranker():
    curve, errors = 1 / np.arange(1, 7), []
    for seed in range(3):
        log, _ = swapped_log(40_000, np.random.default_rng(seed))
        found = contrast_pairs(log)
        errors.append(np.abs(np.exp(found.peak) / curve - 1)[1:].mean())
        assert found.curvature.sum(0) == pytest.approx(np.zeros(6), abs=1e-6)  # no factor of all positions is seen
        slope = numeric_slope(found.peak, log)
        assert np.abs(slope).max() < 1.0  # the ridge's, in clicks of some 20,000
    assert np.mean(errors) < 0.03


def numeric_slope(theta, log):
    shown, clicked = log.shown_and_clicked()

    def value(at):
        looks = shown * np.exp(at)
        return -(clicked * np.log(np.where(clicked > 0, looks / looks.sum(1, keepdims=True), 1))).sum()

    steps = 1e-4 * np.eye(len(theta))
    return np.array([(value(theta + e) - value(theta - e)) / 2e-4 for e in steps])


def test_positions_without_a_common_pair_have_no_curvature():
    builder = SessionBuilder()
    for clicks in ([1, 0], [0, 1], [1, 0]):
        builder.add("q", ["a", "b"], clicks)
    found = contrast_pairs(builder.build())
    assert found.curvature == pytest.approx(np.zeros((2, 2)))
    assert found.peak == pytest.approx(np.zeros(2))


def dual(log, attraction, seed, misfit, **options):
    """Return DLA's curve beside a ranker that misjudges the documents of each position by a factor ``misfit`` [6]."""
    dla = make_debiaser("dla", **options)
    dla.prepare(Evidence(6, log))
    scores = np.log(attraction) + np.log(np.tile(misfit, len(attraction) // 6))
    chosen = np.random.default_rng(seed).integers(len(log), size=(200, 256))
    for step, rows in enumerate(chosen):
        given = torch.tensor(scores[log.pairs[rows]], dtype=torch.float32)
        clicks, mask = torch.tensor(log.clicks[rows], dtype=torch.float32), torch.tensor(log.mask[rows])
        dla.learn(ClickBatch(given, clicks, mask, torch.arange(1, 7).expand(len(rows), 6)), 1.0)
        dla.step((step + 1) / len(chosen))
    return np.array(dla.curve())


def test_dla_is_within_three_percent_of_the_truth_beside_a_ranker_that_is_not():
    """The ranker takes what the old ranker put low for less than it is, by up to a half."""
    curve, misfit, alone, both = 1 / np.arange(1, 7), np.linspace(1, 0.5, 6), [], []
    for seed in range(3):
        log, attraction = swapped_log(60_000, np.random.default_rng(seed))
        alone.append(np.abs(dual(log, attraction, seed, misfit, ranker_clicks=np.inf) / curve - 1)[1:].mean())
        both.append(np.abs(dual(log, attraction, seed, misfit) / curve - 1)[1:].mean())
    assert np.mean(alone) > 0.15
    assert np.mean(both) < 0.03


def test_dla_without_such_pairs_is_that_of_the_ranker_alone():
    rng = np.random.default_rng(0)
    pairs, clicks = 6 * rng.integers(9, size=(500, 1)) + np.arange(6), rng.random((500, 6)) < 0.5
    names = [(f"q{pair // 6}", f"d{pair % 6}") for pair in range(54)]
    log = Sessions(pairs, clicks, np.ones_like(clicks), np.ones(500), names)
    found = [dual(log, np.full(54, 0.5), 0, np.ones(6), ranker_clicks=value) for value in (2.0, np.inf)]
    assert found[0] == pytest.approx(found[1], rel=1e-4)
