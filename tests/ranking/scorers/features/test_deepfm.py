"""DeepFM: its sum by brute force, categories that no transform touches, low rank, and what a network misses."""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from lorank.cli.app import app
from lorank.errors import UsageError
from lorank.ranking.scorers.features import FeatureLists, FeatureRanker
from lorank.ranking.scorers.features.deepfm import deepfm, sum_of_pairs
from lorank.ranking.scorers.features.descent import main_measure

USERS, ITEMS = 12, 20


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), count=st.integers(1, 6), dim=st.integers(1, 5))
def test_the_sum_over_pairs_is_the_sum_over_pairs(seed, count, dim):
    each = torch.randn(3, count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    expected = sum((each[:, i] * each[:, j]).sum(-1) for i, j in combinations(range(count), 2))
    torch.testing.assert_close(sum_of_pairs(each), torch.as_tensor(expected, dtype=torch.float64).expand(3))


def test_a_score_is_its_weights_its_pairs_and_its_network():
    model = deepfm(3, torch.Generator().manual_seed(0), categories=[2], dim=4, buckets=7, hidden=(5,))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    row = torch.tensor([0.5, 9.0, -2.0])  # the second is a category: 9 modulo 7 is 2
    parts = torch.stack([model.tables[0].weight[2], 0.5 * model.vectors[0], -2.0 * model.vectors[1]])
    pairs = sum(parts[i] @ parts[j] for i, j in combinations(range(3), 2))
    linear = 0.5 * model.linear[0] - 2.0 * model.linear[1] + model.weights[0][2]
    expected = linear + model.pairs * pairs + model.network(parts.flatten())[0]
    torch.testing.assert_close(model(row)[0], expected)


def clicks(seed, lists=160, size=8):
    """Lists of (user, item, noise): a user clicks an item where their hidden tastes agree, whatever their numbers."""
    world = np.random.default_rng(7)
    users, items = world.choice([-1, 1], (USERS, 3)), world.choice([-1, 1], (ITEMS, 3))
    rng = np.random.default_rng(seed)
    rows, labels = [], []
    for _ in range(lists):
        user, shown = rng.integers(USERS), rng.choice(ITEMS, size, replace=False)
        rows += [(user, item, rng.normal()) for item in shown]
        labels += [int(users[user] @ items[item] > 0) for item in shown]
    return FeatureLists(np.array(rows, np.float32), np.array(labels), np.arange(lists + 1) * size)


@pytest.mark.parametrize("rank", [0, 4])
def test_tables_learn_who_likes_what_where_a_network_on_numbers_does_not(rank):
    gains = []
    for seed in (0, 1, 2):
        train, test = clicks(seed), clicks(seed + 10)
        tables = FeatureRanker(model="deepfm", categories=[1, 2], buckets=32, rank=rank, seed=seed)
        plain = FeatureRanker(model="mlp", seed=seed)
        for ranker in (tables, plain):
            ranker.fit(train, epochs=40, lr=0.01)
        gains.append(main_measure(tables.score_lists(test), test) - main_measure(plain.score_lists(test), test))
    assert np.median(gains) > 0.1


def test_a_table_of_low_rank_has_the_values_of_its_factors():
    def values(rank):
        model = deepfm(2, torch.Generator().manual_seed(0), categories=[1, 2], dim=16, buckets=500, rank=rank)
        return sum(parameter.numel() for parameter in model.tables.parameters())

    assert values(0) == 2 * 500 * 16
    assert values(3) == 2 * (500 * 3 + 3 * 16 + 16)


def test_transforms_leave_categories_and_new_ones_have_a_row():
    train = clicks(0, lists=20)
    ranker = FeatureRanker(model="deepfm", categories=[1, 2], buckets=8).fit(train, epochs=2)
    inputs = ranker.prepare([], train.rows)
    assert np.array_equal(inputs[:, :2].numpy(), train.rows[:, :2])
    assert not np.allclose(inputs[:, 2].numpy(), train.rows[:, 2])
    known, other = np.array([[3, 5, 0.0]], np.float32), np.array([[3 + 8, 5 + 80, 0.0]], np.float32)
    assert ranker.score("", known) == pytest.approx(ranker.score("", other))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"categories": [0]}, "columns from 1"),
        ({"categories": [1, 1]}, "stands there twice"),
        ({"rank": 17}, "rank from 0 to dim"),
        ({"buckets": 0}, "sizes of 1 or more"),
        ({"categories": [1], "transform": "query-standardise"}, "would change categories"),
        ({"categories": [4], "features": 3}, "column 4"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(UsageError, match=message):
        FeatureRanker(model="deepfm", **options)


@pytest.mark.parametrize("wrong", [-1.0, 0.5, 2.0**25])
def test_a_category_that_is_no_whole_number_is_named(wrong):
    rows = clicks(0, lists=20).rows.copy()
    rows[5, 1] = wrong
    with pytest.raises(UsageError, match="feature 2 of document 5"):
        FeatureRanker(model="deepfm", categories=[1, 2], features=3, transform="none").prepare([], rows)


@pytest.mark.parametrize("rank", [0, 4])
def test_clicks_of_users_and_items_are_learned_from_the_command_line(tmp_path, rank):
    folder, out = tmp_path / "Fold1", tmp_path / "run"
    folder.mkdir()
    for seed, (part, lists) in enumerate([("train", 160), ("vali", 40), ("test", 80)]):
        made = clicks(seed, lists)
        at = np.repeat(np.arange(lists), made.sizes)
        lines = [
            f"{label} qid:{part}{query} 1:{row[0]:.0f} 2:{row[1]:.0f} 3:{row[2]:.4f}"
            for label, query, row in zip(made.labels, at, made.rows, strict=True)
        ]
        (folder / f"{part}.txt").write_text("\n".join(lines) + "\n")
    words = ["train", "--data", folder, "--base", "deepfm", "--loss", "bce", "--out", out]
    words += ["--set", "options.categories=[1,2]", "--set", f"options.rank={rank}"]
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, (done.output, done.exception)
    test = clicks(2, 80)
    chance = main_measure(np.zeros(len(test.labels)), test)
    assert main_measure(FeatureRanker.load(out / "model" / "model").score_lists(test), test) > chance + 0.2
