"""What a run keeps where dev does not rise: the untuned base, or the trained weights all the same."""

from dataclasses import replace

import pytest

import lorank
from lorank.ranking.scorers import BiEncoder
from lorank.training.fitting import fit_run
from lorank.training.settings import AdapterSettings, ListSettings, LossSettings, OptimizerSettings, Recipe

RUINOUS = Recipe(
    adapter=AdapterSettings("lora", rank=2),
    loss=LossSettings("softmax"),
    lists=ListSettings(depth=8, spare=1.0),
    training=OptimizerSettings(steps=3, batch_size=4, lr=0.3, warmup=0.0, evaluations=3, precision="fp32"),
    judge_test=False,
)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_run_that_harms_dev_keeps_the_base_or_the_trained_weights_as_it_was_asked_to(
    texts, tiny_folders, tmp_path, seed
):
    for keep in ("better", "tuned"):
        ranker = BiEncoder(tiny_folders["bert"])
        recipe = replace(RUINOUS, keep=keep, seed=seed)
        fitted = fit_run(ranker, texts, recipe, tmp_path / keep)
        moved = max(float(layer.delta().abs().max()) for layer in fitted.tuned.adapter.layers.values())
        if keep == "tuned":
            assert fitted.outcome.best_step > 0
            assert moved > 0
        again = lorank.load_ranker(tmp_path / keep)
        assert again.score("a", ["b", "c"]).shape == (2,)
