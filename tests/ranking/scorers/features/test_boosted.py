"""gradient-boosted-nn: every stage helps, the joined network is the sum of its stages, prefixes are models."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from lorank import lowrank
from lorank.catalogue import METHODS
from lorank.errors import UsageError
from lorank.ranking.losses import loss
from lorank.ranking.losses.core.packed import pack_loss
from lorank.ranking.scorers.features import FeatureLists, FeatureRanker
from lorank.ranking.scorers.features.boosted import prefix


def lists_of(count=40, seed=0):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count * 6, 3)).astype(np.float32)
    labels = np.digitize(rows[:, 0] * rows[:, 1], [0.3, 1.2])
    return FeatureLists(rows, labels, np.arange(0, count * 6 + 1, 6))


@pytest.fixture(scope="module", params=["softmax", "ranknet", "bce", "approxndcg"])
def grown(request):
    lists = lists_of()
    return (
        request.param,
        lists,
        FeatureRanker(model="boosted", units=4, stages=6, transform="none").fit(lists, loss=request.param),
    )


def losses_by_stage(name, lists, ranker):
    scores = [torch.from_numpy(prefix(ranker, stages).score_lists(lists)) for stages in range(1, 7)]
    measure = pack_loss(loss(name))
    return [
        float(measure(s, torch.from_numpy(lists.labels).float(), torch.from_numpy(lists.offsets)))
        for s in [torch.zeros(len(lists.rows)), *scores]
    ]


def test_gradient_boosted_nn_training_loss_never_rises_from_stage_to_stage(grown):
    values = losses_by_stage(*grown)
    assert all(after <= before + 1e-6 for before, after in pairwise(values))
    assert values[-1] < values[0]


def test_the_joined_network_is_the_sum_of_its_stages(grown):
    _, lists, ranker = grown
    hidden, last, total = ranker.module[0], ranker.module[2], torch.zeros(len(lists.rows))
    rows = ranker.prepare([], lists.rows)
    with torch.no_grad():
        for number in range(6):
            units = ranker.module.stage(number)
            total += torch.tanh(rows @ hidden.weight[units].T + hidden.bias[units]) @ last.weight[0, units]
    np.testing.assert_allclose(ranker.score_lists(lists), total.numpy() + last.bias.item(), rtol=1e-5, atol=5e-6)
    np.testing.assert_allclose(prefix(ranker, 6).score_lists(lists), ranker.score_lists(lists), rtol=1e-5, atol=5e-6)


def test_prefixes_save_and_load_like_any_other_ranker(grown, tmp_path):
    _, lists, ranker = grown
    short = prefix(ranker, 2)
    assert short.module[0].out_features == 8
    short.save(tmp_path)
    np.testing.assert_allclose(
        FeatureRanker.load(tmp_path).score_lists(lists), short.score_lists(lists), rtol=1e-5, atol=5e-6
    )
    with pytest.raises(UsageError, match="stages must be from 1 to 6"):
        prefix(ranker, 7)
    with pytest.raises(UsageError, match="only a boosted network"):
        prefix(FeatureRanker(), 1)


@pytest.mark.parametrize("model", ["mlp", "set-transformer", "boosted", "tsprank"])
def test_low_rank_forms_attach_to_feature_networks(model):
    ranker = FeatureRanker(model=model, transform="none")
    ranker.observe(lists_of().rows)
    rows = lists_of().rows[:6]
    before = ranker.score("", rows)
    adapter = lowrank.attach(ranker.module, "lora", rank=2, seed=0)
    np.testing.assert_allclose(ranker.score("", rows), before, rtol=1e-5, atol=5e-6)
    assert 0 < adapter.num_parameters() < sum(p.numel() for p in ranker.module.parameters())
    adapter.detach()


def test_gradient_boosted_nn_is_catalogued():
    assert METHODS["gradient-boosted-nn"].area == "models"
