"""neural-pg-rank in the one loop: every kind of ranker climbs nDCG, and a run that was cut off resumes to the bit."""

import json
import statistics
from dataclasses import replace

import pytest
import torch

from lorank.ranking.scorers import BiEncoder, CrossEncoder, FeatureRanker
from lorank.training import fit
from lorank.training.settings import ListSettings, LossSettings, OptimizerSettings, Recipe

pytestmark = pytest.mark.usefixtures("own_cache")
QUICK = Recipe(
    loss=LossSettings("pg-rank"),
    training=OptimizerSettings(steps=6, batch_size=4, lr=5e-3, evaluations=2, precision="fp32"),
    lists=ListSettings(negatives=3, depth=20),
)


def losses_of(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


@pytest.mark.parametrize("kind", [BiEncoder, CrossEncoder])
def test_text_rankers_learn_by_orders_that_are_drawn(texts, bert, tmp_path, kind):
    fit(kind(bert), texts, "lora", out=tmp_path / "run", recipe=QUICK)
    assert all(-1.0 <= value <= 0.0 for value in losses_of(tmp_path / "run"))  # minus a mean nDCG


def test_a_feature_ranker_reaches_the_planted_order(rows, tmp_path):
    settings = replace(QUICK.training, steps=60, batch_size=10, lr=2e-2, evaluations=3)
    reached = []
    for seed in (0, 1, 2):
        fit(
            FeatureRanker(hidden=(8,)),
            rows,
            out=tmp_path / str(seed),
            recipe=replace(QUICK, training=settings, seed=seed),
        )
        reached.append(-losses_of(tmp_path / str(seed))[-1])
    assert statistics.median(reached) > 0.85


class Killed(Exception):
    pass


def test_a_run_that_was_cut_off_draws_the_same_orders_when_it_is_resumed(rows, tmp_path):
    recipe = replace(QUICK, training=replace(QUICK.training, steps=8, checkpoint_seconds=0.0))
    whole = fit(FeatureRanker(hidden=(8,)), rows, out=tmp_path / "whole", recipe=recipe)

    def cut(what, done, total):
        if what.startswith("train") and done == 5:
            raise Killed

    with pytest.raises(Killed):
        fit(FeatureRanker(hidden=(8,)), rows, out=tmp_path / "cut", recipe=recipe, on_progress=cut)
    again = fit(FeatureRanker(hidden=(8,)), rows, out=tmp_path / "cut", recipe=recipe, resume=True)
    for one, two in zip(whole.ranker.module.parameters(), again.ranker.module.parameters(), strict=True):
        assert torch.equal(one, two)  # exact: a resumed run is the same run
