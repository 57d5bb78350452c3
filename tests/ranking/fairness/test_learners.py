"""The learners of fairness on planted data: weights that look closely, forests that forget."""

import numpy as np
import pytest
import torch

from lorank.errors import UsageError
from lorank.ranking.fairness.aranyani import Aranyani
from lorank.ranking.fairness.road import RoadSettings, road_weights, train_road


def test_weights_are_alike_at_infinite_tau_and_look_at_the_lowest_loss_below():
    loss, sensitive = torch.tensor([0.1, 2.0, 0.5, 0.5]), torch.tensor([0, 0, 1, 1])
    assert road_weights(loss, sensitive, float("inf")).tolist() == pytest.approx([1.0] * 4)
    assert road_weights(loss, sensitive, 1e9).tolist() == pytest.approx([1.0] * 4, abs=1e-6)
    sharp = road_weights(loss, sensitive, 0.1)
    assert sharp[:2].tolist() == pytest.approx([2.0, 0.0], abs=1e-4)
    assert sharp[2:].tolist() == pytest.approx([1.0, 1.0])
    assert sharp.mean() == pytest.approx(1.0)
    with pytest.raises(UsageError, match="tau"):
        road_weights(loss, sensitive, 0.0)


def local_bias(seed, count=600):
    """In one region the label leans to one group, in the other to the other: fair on average, unfair in each."""
    rng = np.random.default_rng(seed)
    region, sensitive = rng.integers(0, 2, count), rng.integers(0, 2, count)
    lean = np.where(region == 0, 2.0, -2.0) * (2 * sensitive - 1)
    merit = rng.normal(size=count)
    labels = rng.random(count) < 1 / (1 + np.exp(-(merit + lean)))
    rows = np.stack([merit, region, sensitive + 0.3 * rng.normal(size=count)], 1)
    return [torch.from_numpy(each) for each in (rows.astype(np.float32), labels.astype(int), sensitive, region)]


def worst_region_gap(scorer, rows, sensitive, region):
    output = torch.sigmoid(scorer(rows)).squeeze(1)
    gaps = [
        output[(region == each) & (sensitive == 1)].mean() - output[(region == each) & (sensitive == 0)].mean()
        for each in (0, 1)
    ]
    return float(torch.stack(gaps).abs().max())


def test_an_adversary_lowers_the_worst_gap_of_a_planted_local_bias():
    gaps = {"none": [], "global": [], "road": []}
    for seed in range(3):
        rows, labels, sensitive, region = local_bias(seed)
        for name, settings in (
            ("none", RoadSettings(penalty=0.0, steps=150)),
            ("global", RoadSettings(penalty=2.0, tau=float("inf"), steps=150)),
            ("road", RoadSettings(penalty=2.0, tau=0.3, steps=150)),
        ):
            scorer = train_road(rows, labels, sensitive, settings, generator=torch.Generator().manual_seed(seed))
            gaps[name].append(worst_region_gap(scorer, rows, sensitive, region))
    assert np.mean(gaps["road"]) < np.mean(gaps["none"])


def stream(seed, count=1200):
    rng = np.random.default_rng(seed)
    sensitive = rng.integers(0, 2, count)
    rows = np.stack([rng.normal(size=count) + 1.2 * sensitive, rng.normal(size=count)], 1)
    labels = (rows.sum(1) + 0.5 * rng.normal(size=count) > 0.6).astype(int)
    return rows, labels, sensitive


def trained(fairness, seed, count=1200):
    rows, labels, sensitive = stream(seed, count)
    forest = Aranyani(2, np.random.default_rng(seed), fairness=fairness, lr=0.3)
    for row, label, group in zip(rows, labels.tolist(), sensitive.tolist(), strict=True):
        forest.update(row, label, group)
    return forest, rows, labels, sensitive


def test_the_parity_gap_falls_with_lambda():
    gaps, right = [], []
    for fairness in (0.0, 0.2, 2.0):
        found = [trained(fairness, seed) for seed in range(3)]
        gaps.append(np.mean([forest.parity_gap(rows, sensitive) for forest, rows, _, sensitive in found]))
        right.append(np.mean([((f.score(rows) > 0.5) == labels).mean() for f, rows, labels, _ in found]))
    assert gaps[0] > gaps[2]
    assert gaps[0] > 0.15
    assert right[0] > 0.75


def test_node_aggregates_are_the_means_of_what_was_routed():
    rows, _, sensitive = stream(0, 60)
    forest = Aranyani(2, np.random.default_rng(0), lr=1e-12)
    for row, group in zip(rows, sensitive.tolist(), strict=True):
        forest.update(row, 1, group)
    for group in (0, 1):
        batch = np.mean([forest.route(row) for row in rows[sensitive == group]], axis=0)
        assert forest.means[group] == pytest.approx(batch, abs=1e-6)


def test_memory_does_not_grow_with_the_stream():
    sizes = []
    for count in (50, 500):
        forest = trained(0.1, 0, count)[0]
        sizes.append(sum(value.nbytes for value in vars(forest).values() if isinstance(value, np.ndarray)))
    assert sizes[0] == sizes[1]
    with pytest.raises(UsageError):
        Aranyani(0, np.random.default_rng(0))


def test_the_slope_of_a_step_is_that_of_finite_differences():
    """The output's slope in the routing bias, by which a step without fairness moves it."""
    forest = Aranyani(2, np.random.default_rng(3), trees=1, depth=2, fairness=0.0, lr=1.0)
    row, before = np.array([0.3, -0.2]), forest.bias.copy()

    def loss():
        p = forest.score(row)[0]
        return -np.log(p)

    numeric = np.zeros_like(before)
    for node in range(3):
        for sign in (1, -1):
            forest.bias[0, node] = before[0, node] + sign * 1e-5
            numeric[0, node] += sign * loss() / 2e-5
        forest.bias[0, node] = before[0, node]
    forest.update(row, 1, 0)
    assert before - forest.bias == pytest.approx(numeric, abs=1e-6)
