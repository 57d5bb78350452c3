"""The feature ranker: its transforms, its statistics, its start."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from lorank.errors import LorankError, UsageError
from lorank.ranking.scorers import FeatureRanker
from lorank.ranking.scorers.features.transforms import TRANSFORMS

ROWS = np.array([[1.0, -4.0, 7.0], [3.0, 0.0, 7.0], [8.0, 4.0, 7.0], [0.0, 8.0, 7.0]], np.float32)


@pytest.mark.parametrize("transform", ["none", "log1p", "standardise", "log1p-standardise"])
def test_transforms_are_their_formulas(transform):
    ranker = FeatureRanker.for_collection(ROWS, transform=transform)
    x = ROWS.astype(np.float64)
    if "log1p" in transform:
        x = np.sign(x) * np.log(1 + np.abs(x))
    if "standardise" in transform:
        deviation = np.sqrt(((x - x.mean(0)) ** 2).mean(0))
        deviation[2] = np.inf
        x = (x - x.mean(0)) / deviation
    np.testing.assert_allclose(ranker.prepare([], ROWS).numpy(), x, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("columns", [1, 8, 9, 20])
def test_statistics_are_those_of_every_column_however_many_there_are(columns):
    rows = np.random.default_rng(0).normal(3.0, 2.0, size=(30, columns))
    found = TRANSFORMS["standardise"].statistics(rows)
    np.testing.assert_allclose(found["mean"], rows.mean(0))
    np.testing.assert_allclose(found["scale"], 1 / rows.std(0))
    marks = TRANSFORMS["quantile"].statistics(rows)["quantiles"]
    np.testing.assert_allclose(marks[[0, 50, 100]], [rows.min(0), np.median(rows, 0), rows.max(0)])


def test_statistics_come_from_the_rows_observed_and_no_others():
    ranker = FeatureRanker.for_collection(ROWS, transform="standardise")
    before = ranker.prepare([], ROWS)
    ranker.prepare([], ROWS * 100)
    ranker.score("", ROWS * 100)
    assert torch.equal(ranker.prepare([], ROWS), before)


def test_a_linear_ranker_is_a_dot_product():
    ranker = FeatureRanker(features=3, hidden=(), transform="none")
    with torch.no_grad():
        ranker.module[0].weight.copy_(torch.tensor([[1.0, 2.0, -1.0]]))
        ranker.module[0].bias.fill_(0.5)
    np.testing.assert_allclose(ranker.score("ignored", ROWS), ROWS @ [1.0, 2.0, -1.0] + 0.5, rtol=1e-6)


def test_scores_start_at_zero_and_weights_come_from_the_seed():
    state = torch.random.get_rng_state()
    first = FeatureRanker.for_collection(ROWS, seed=1)
    assert (first.score("", ROWS) == 0).all()
    again, other = FeatureRanker.for_collection(ROWS, seed=1), FeatureRanker.for_collection(ROWS, seed=2)
    assert torch.equal(first.module[0].weight, again.module[0].weight)
    assert not torch.equal(first.module[0].weight, other.module[0].weight)
    assert torch.equal(state, torch.random.get_rng_state())
    assert [type(part) for part in first.module if list(part.parameters())] == [nn.Linear] * 3


def test_it_learns_a_rule_that_its_features_hold():
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(300, 3)).astype(np.float32)
    target = torch.from_numpy(rows[:, 0] * rows[:, 1])
    ranker = FeatureRanker.for_collection(rows, transform="none", hidden=(32,))
    inputs = ranker.prepare([], rows)
    optimizer = torch.optim.Adam([p for _, p in ranker.head_parameters()], lr=0.02)
    place = torch.zeros(1, dtype=torch.int64), torch.arange(300)[None], torch.ones(1, 300, dtype=torch.bool)
    for _ in range(150):
        optimizer.zero_grad()
        ((ranker.forward(inputs, *place)[0] - target) ** 2).mean().backward()
        optimizer.step()
    assert np.corrcoef(ranker.score("", rows), target.numpy())[0, 1] > 0.95


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((2, 4)), "rows have 4 features, this ranker was made for 3"),
        (np.array([[0.0, np.nan, 1.0]]), "feature 2 of document 0 is nan"),
        (np.zeros(3), "rows of numbers"),
        (["a text"], "texts need a bi-encoder or a cross-encoder"),
    ],
)
def test_bad_rows_are_refused(rows, message):
    with pytest.raises(UsageError, match=message):
        FeatureRanker.for_collection(ROWS).score("", rows)


def test_a_ranker_that_saw_no_rows_says_so():
    with pytest.raises(UsageError, match="does not know its features"):
        FeatureRanker().score("", ROWS)
    with pytest.raises(UsageError, match="call observe"):
        FeatureRanker(features=3).score("", ROWS)
    with pytest.raises(UsageError, match="no training rows"):
        FeatureRanker.for_collection(np.zeros((0, 3), np.float32))
    with pytest.raises(UsageError, match="starts from nothing"):
        FeatureRanker("minilm")


def test_statistics_survive_json_and_saving_exactly(tmp_path):
    ranker = FeatureRanker.for_collection(np.random.default_rng(1).lognormal(size=(50, 4)))
    again = FeatureRanker(**json.loads(json.dumps(ranker.options())))
    assert np.array_equal(again.statistics["mean"], ranker.statistics["mean"])
    ranker.save(tmp_path)
    loaded = FeatureRanker.load(tmp_path)
    assert np.array_equal(loaded.statistics["mean"], ranker.statistics["mean"])
    assert np.array_equal(loaded.statistics["scale"], ranker.statistics["scale"])
    with pytest.raises(LorankError, match="no lorank.json"):
        FeatureRanker.load(tmp_path / "elsewhere")


def test_a_folder_of_another_kind_is_refused(tmp_path):
    from lorank.ranking.scorers import BiEncoder

    FeatureRanker(features=2, transform="none").save(tmp_path)
    with pytest.raises(LorankError, match="kind is 'features', not 'bi-encoder'"):
        BiEncoder.load(tmp_path)
