"""adaptdhm: one cluster is one tower, two planted distributions are told apart, coefficients sum to 1."""

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from lorank.cli.app import app
from lorank.errors import UsageError
from lorank.ranking.scorers.features import FeatureLists, feature_model
from lorank.ranking.scorers.features.adaptdhm import Towers
from lorank.ranking.scorers.features.descent import main_measure

FEATURES = 8


def planted(seed, count=120, size=10):
    """Lists of two distributions whose rows lie apart, and in which one feature counts with opposite signs."""
    rng = np.random.default_rng(seed)
    domain = rng.integers(0, 2, count)
    sign = np.where(domain == 1, 1.0, -1.0)[:, None]
    noise = rng.normal(size=(count, size, FEATURES))
    rows = noise + 1.5 * sign[:, :, None] * np.where(np.arange(FEATURES) % 2, 1, -1)
    worth = noise[:, :, 0] * sign + 0.5 * noise[:, :, 1]
    labels = (worth > np.quantile(worth, 0.7, axis=1, keepdims=True)).astype(np.float32)
    lists = FeatureLists(rows.reshape(-1, FEATURES).astype(np.float32), labels.reshape(-1), np.arange(count + 1) * size)
    return lists, np.repeat(domain, size)


def towers(seed=0, **options):
    usual = {"clusters": 3, "hidden": (6, 5), "temperature": 0.1, "momentum": 0.9, "rounds": 3}
    module = Towers(FEATURES, torch.Generator().manual_seed(seed), **usual | options)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    return module.eval()


def rows_of(count=7, seed=3):
    return torch.randn(count, FEATURES, generator=torch.Generator().manual_seed(seed))


def tower_of(module, cluster):
    """The tower of a cluster as a plain perceptron."""
    layers = []
    for shared, own, bias in zip(module.shared, module.own, module.biases, strict=True):
        layer = nn.Linear(shared.in_features, shared.out_features)
        with torch.no_grad():
            layer.weight.copy_(shared.weight * own[cluster])
            layer.bias.copy_(shared.bias + bias[cluster])
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def test_adaptdhm_with_one_cluster_is_a_single_tower():
    module, rows = towers(clusters=1), rows_of()
    torch.testing.assert_close(module(rows), tower_of(module, 0)(rows))


def test_adaptdhm_is_the_sum_of_its_towers_by_coefficients():
    module, rows = towers(), rows_of()
    parts = torch.cat([tower_of(module, cluster)(rows) for cluster in range(3)], 1)
    torch.testing.assert_close(module(rows), (module.coefficients(rows) * parts).sum(1, keepdim=True))


def test_adaptdhm_coefficients_sum_to_one_and_are_the_softmax_of_cosines():
    module, rows = towers(temperature=0.5), rows_of()
    share = module.coefficients(rows)
    torch.testing.assert_close(share.sum(1), torch.ones(len(rows)))
    cosines = torch.stack([nn.functional.cosine_similarity(rows, centre) for centre in module.centres], 1)
    torch.testing.assert_close(share, torch.softmax(cosines / 0.5, 1))


def test_adaptdhm_centres_move_by_the_moving_mean_of_a_routed_batch_and_only_in_training():
    module, rows = towers(rounds=1, momentum=0.75), rows_of(20)
    before, share = module.centres.clone(), module.coefficients(rows)
    module(rows)
    assert torch.equal(module.centres, before)
    module.train()
    module(rows)
    means = share.T @ rows / share.sum(0).unsqueeze(1)
    torch.testing.assert_close(module.centres, 0.75 * before + 0.25 * means)
    assert not module.centres.requires_grad


def test_adaptdhm_separates_two_planted_distributions_at_its_defaults():
    right = []
    for seed in range(4):
        train, _ = planted(seed)
        test, domain = planted(100 + seed)
        ranker = feature_model("adaptdhm", seed=seed).fit(train, planted(200 + seed, 40)[0])
        share = ranker.module.coefficients(ranker.prepare([], test.rows)).numpy()
        same = float(((share[:, 1] > 0.5) == domain).mean())
        right.append(max(same, 1 - same))
        assert main_measure(ranker.score_lists(test), test) > 0.9
    assert min(right) > 0.95


def test_adaptdhm_with_two_linear_towers_orders_what_one_cannot():
    gains = []
    for seed in range(3):
        train, dev, test = planted(seed)[0], planted(200 + seed, 40)[0], planted(100 + seed)[0]
        two, one = (
            main_measure(
                feature_model("adaptdhm", seed=seed, hidden=(), clusters=clusters)
                .fit(train, dev, loss="bce", lr=0.02)
                .score_lists(test),
                test,
            )
            for clusters in (2, 1)
        )
        gains.append(two - one)
    assert np.mean(gains) > 0.1


def test_adaptdhm_trains_and_reranks_from_the_command_line(tmp_path):
    paths = {}
    for split, seed in (("train", 0), ("vali", 1), ("test", 2)):
        lists, _ = planted(seed, 40)
        paths[split] = tmp_path / "fold" / f"{split}.txt"
        paths[split].parent.mkdir(exist_ok=True)
        queries = np.repeat(np.arange(len(lists)), lists.sizes)
        paths[split].write_text(
            "".join(
                f"{int(label)} qid:{split}{query} {' '.join(f'{i + 1}:{x:.5f}' for i, x in enumerate(row))}\n"
                for label, query, row in zip(lists.labels, queries, lists.rows, strict=True)
            )
        )
    fold, out = str(tmp_path / "fold"), str(tmp_path / "run")
    done = CliRunner().invoke(app, ["train", "--data", fold, "--base", "adaptdhm", "--loss", "bce", "--out", out])
    assert done.exit_code == 0, (done.output, done.exception)
    run = str(tmp_path / "a.run")
    done = CliRunner().invoke(app, ["rerank", "--data", fold, "--ranker", out, "--out", run])
    assert done.exit_code == 0, (done.output, done.exception)
    done = CliRunner().invoke(app, ["evaluate", "--data", fold, "--run", run, "--measures", "nDCG@10"])
    assert done.exit_code == 0, (done.output, done.exception)


@pytest.mark.parametrize("wrong", [{"clusters": 0}, {"rounds": 0}, {"temperature": 0.0}, {"momentum": 1.0}])
def test_adaptdhm_refuses_numbers_out_of_range(wrong):
    with pytest.raises(UsageError, match="clusters="):
        feature_model("adaptdhm", **wrong)
