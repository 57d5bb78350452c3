"""beer in the one loop: the head's inputs are those that make the scores, and the penalty widens what is learned."""

import statistics
from dataclasses import replace

import pytest
import torch

from lorank.errors import UsageError
from lorank.lowrank.spectra.rankme import rankme
from lorank.ranking.losses import loss
from lorank.ranking.scorers import BiEncoder, CrossEncoder, FeatureRanker
from lorank.ranking.scorers.linear_head import reading_head
from lorank.training import fit
from lorank.training.lists.batches import ListBatch
from lorank.training.lists.list_loss import list_loss
from lorank.training.settings import ListSettings, LossSettings, OptimizerSettings, Recipe

pytestmark = pytest.mark.usefixtures("own_cache")
QUICK = Recipe(
    loss=LossSettings("beer"),
    training=OptimizerSettings(steps=4, batch_size=4, lr=5e-3, evaluations=1, precision="fp32"),
    lists=ListSettings(negatives=3, depth=20),
    keep="tuned",
    judge_test=False,
)


def test_what_the_head_reads_makes_the_scores_of_a_cross_encoder(bert):
    ranker = CrossEncoder(bert, head="random")
    inputs = ranker.prepare(["red one", "two"], ["red", "blue green", "one"])
    queries, documents = torch.tensor([0, 1]), torch.tensor([[2, 0, 1], [0, 0, 0]])
    mask = torch.tensor([[True, True, True], [True, False, False]])
    with reading_head(ranker) as head:
        read = ranker.forward(inputs, queries, documents, mask)
    scores = ranker.forward(inputs, queries, documents, mask)
    assert read.shape == (2, 3, head.in_features)
    torch.testing.assert_close(head(read).squeeze(-1).masked_fill(~mask, 0.0), scores)
    assert float(read[~mask].detach().abs().sum()) < 1e-6


def test_without_strength_a_step_is_that_of_pg_rank(bert):
    ranker = CrossEncoder(bert, head="random")
    inputs = ranker.prepare(["red one"], ["red", "blue green", "one"])
    batch = ListBatch(
        torch.tensor([0]),
        torch.tensor([[0, 1, 2]]),
        torch.tensor([[1.0, 0.0, 0.0]]),
        torch.ones(1, 3, dtype=torch.bool),
        None,
    )
    settings, gradients = OptimizerSettings(precision="fp32"), []
    for function in (loss("beer", strength=0.0), loss("pg-rank")):
        ranker.module.zero_grad()
        list_loss(ranker, inputs, batch, function, settings, 5, torch.device("cpu")).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in ranker.module.parameters() if p.grad is not None]))
    torch.testing.assert_close(gradients[0], gradients[1])


def test_a_cross_encoder_is_trained_by_name(texts, bert, tmp_path):
    fit(CrossEncoder(bert), texts, "lora", out=tmp_path / "run", recipe=QUICK)
    assert (tmp_path / "run" / "model" / "lorank.json").is_file()


def test_a_stronger_penalty_leaves_more_directions_in_what_a_feature_ranker_reads(rows, tmp_path):
    ranks = {0.0: [], 3.0: []}
    for strength, found in ranks.items():
        for seed in (0, 1, 2):
            recipe = replace(
                QUICK,
                seed=seed,
                loss=LossSettings("beer", {"strength": strength}),
                training=replace(QUICK.training, steps=60, batch_size=10, lr=2e-2),
            )
            out = tmp_path / f"{strength}-{seed}"
            ranker = fit(FeatureRanker(hidden=(8,)), rows, out=out, recipe=recipe).ranker
            new = torch.randn(64, ranker.features, generator=torch.Generator().manual_seed(9))
            places, mask = torch.arange(64).unsqueeze(0), torch.ones(1, 64, dtype=torch.bool)
            with reading_head(ranker), torch.no_grad():
                read = ranker.forward(ranker.prepare([""], new.numpy()), torch.tensor([0]), places, mask)
            found.append(rankme(read[0]))
    assert statistics.median(ranks[3.0]) > statistics.median(ranks[0.0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (BiEncoder, "a bi-encoder has no linear head"),
        (lambda base: CrossEncoder(base, long="max"), "set reading.long to truncate"),
    ],
)
def test_rankers_without_such_a_head_are_refused(texts, bert, tmp_path, make, message):
    with pytest.raises(UsageError, match=message):
        fit(make(bert), texts, "lora", out=tmp_path / "run", recipe=QUICK)
