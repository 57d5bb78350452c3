"""Routers inside the training loop: they train, score alike when loaded again, and their penalties count."""

from dataclasses import replace

import pytest
import torch

from lorank.ranking.scorers import BiEncoder, CrossEncoder
from lorank.training import fit, load_ranker
from lorank.training.hooks import Progress
from lorank.training.settings import AdapterSettings, ListSettings, OptimizerSettings, Recipe
from lorank.training.stepping import penalties

QUICK = Recipe(training=OptimizerSettings(steps=4, batch_size=4, lr=5e-3, evaluations=2),
               lists=ListSettings(negatives=3, depth=20))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", ["flylora", "mixture-of-routers", "base-layers", "taps", "mhr", "palora"])
@pytest.mark.parametrize("kind", [BiEncoder, CrossEncoder])
def test_a_routed_ranker_trains_and_its_folder_scores_the_same(name, kind, texts, tiny_folders, tmp_path):
    recipe = replace(QUICK, adapter=AdapterSettings(name, rank=4, targets=["query", "value"]))
    tuned = fit(kind(str(tiny_folders["bert"])), texts, out=tmp_path / "run", recipe=recipe)
    documents = list(texts.documents[:6])
    one, two = tuned.score("moon earth", documents), load_ranker(tmp_path / "run").score("moon earth", documents)
    assert abs(one - two).max() <= 1e-6 * max(1.0, abs(one).max())


def test_penalties_are_summed_over_the_layers_and_asked_for_only_where_there_are_some():
    from lorank import lowrank

    def attached(name):
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
        return lowrank.attach(model, name, rank=1, options={"sparsity": 0.5} if name == "taps" else {})

    (hook,) = penalties(attached("taps"))
    assert hook.penalty(Progress(0, 1, 0)) == 0.5  # the mean over two layers of |1|, times 0.5
    assert penalties(attached("lora")) == []
    assert penalties(None) == []
