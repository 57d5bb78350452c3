"""Networks for feature rows go through the training loop, with adapters, and are named on the command line."""

from dataclasses import replace

import numpy as np
import pytest

from lorank.errors import UsageError
from lorank.ranking.metrics.measures import mean_of
from lorank.training import fit, load_ranker, rerank_run
from lorank.training.settings import OptimizerSettings, Recipe
from lorank.tuned.open_ranker import open_base

QUICK = replace(Recipe(), training=OptimizerSettings(steps=60, batch_size=10, lr=2e-2, evaluations=2))


@pytest.mark.parametrize(
    ("model", "adapter"), [("linear", "full"), ("set-transformer", "full"), ("set-transformer", "lora")]
)
def test_a_network_is_named_as_base_and_trained_like_any_other(rows, tmp_path, model, adapter):
    ranker = open_base(model, "features", rows, 0)
    tuned = fit(ranker, rows, adapter, "softmax", out=tmp_path / "run", recipe=QUICK)
    run = rerank_run(tuned, rows, rows.test.queries, rows.test.candidates)
    assert mean_of(run, rows.test.qrels, "nDCG@10") > 0.8
    again = load_ranker(tmp_path / "run")
    part = rows.documents[:5]
    assert again.ranker.model == model
    assert np.abs(tuned.score("", part) - again.score("", part)).max() < 1e-6


def test_without_a_base_rows_get_a_perceptron_and_other_names_are_refused(rows, texts):
    assert open_base(None, None, rows, 0).model == "mlp"
    with pytest.raises(UsageError, match="did you mean 'linear'"):
        open_base("linaer", None, rows, 0)
    with pytest.raises(UsageError, match="holds texts"):
        open_base("minilm", None, texts, 0, options={"trees": 3})
    with pytest.raises(UsageError, match="only a causal ranker has views"):
        open_base("mlp", None, rows, 0, view="head")
