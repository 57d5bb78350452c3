"""Rankers that learn by an objective of their own are fitted, saved, opened and judged like all others."""

import json
from dataclasses import replace

import numpy as np
import pytest

from lorank import CrossEncoder
from lorank.data import read_letor, write_letor
from lorank.data.letor import feature_rows
from lorank.errors import UsageError
from lorank.ranking.metrics.measures import mean_of
from lorank.ranking.scorers.features import NETWORKS, feature_models
from lorank.ranking.scorers.features.trees import LIBRARIES
from lorank.reporting import write_report
from lorank.training import Hook, Recipe, fit, load_ranker, rerank_run
from lorank.training.recipe import RecipeFile, read_recipe, settings_said
from lorank.training.self_fitting import own_options
from lorank.training.settings import LossSettings, OptimizerSettings, list_changed_settings
from lorank.tuned.open_ranker import open_base

TREES = {"trees": 20, "leaves": 4, "leaf_rows": 3, "leaf_weight": 0.0}
OPTIONS = {
    "tsprank": {"width": 16, "blocks": 0, "epochs": 60, "lr": 0.02, "batch_size": 10},
    "pointer": {"width": 16, "places": 4, "orders": 0, "epochs": 60, "lr": 0.02, "batch_size": 10},
    "boosted": {"units": 4, "stages": 5},
    "adaptdhm": {"hidden": (16,), "epochs": 60, "lr": 0.02, "batch_size": 10},
    "lightgbm": TREES,
    "xgboost": TREES,
    "catboost": TREES,
}


def made(model, data, seed=0, **more):
    if model in LIBRARIES:
        pytest.importorskip(LIBRARIES[model].module)
    return open_base(model, "features", data, seed, options={**OPTIONS[model], **more})


def test_every_feature_model_is_of_one_sort_or_the_other():
    descending = {name for name in NETWORKS if NETWORKS[name].learn is None}
    assert set(OPTIONS) == set(feature_models()) - descending
    assert {"linear", "mlp", "set-transformer"} <= descending


@pytest.mark.parametrize("model", OPTIONS)
def test_fit_ranks_saves_opens_and_reports(rows, tmp_path, model):
    tuned = fit(made(model, rows), rows, out=tmp_path / "run", command="lorank train ...")
    again = load_ranker(tmp_path / "run")
    part = rows.documents[:8]
    assert type(again.ranker) is type(tuned.ranker)
    assert np.abs(tuned.score("", part) - again.score("", part)).max() < 1e-6
    dev = rerank_run(tuned, rows, rows.dev.queries, rows.dev.candidates)
    assert tuned.mix.curve == [(float("inf"), mean_of(dev, rows.dev.qrels, "nDCG@10"))]
    record = json.loads((tmp_path / "run/run.json").read_text())
    curve = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert record["outcome"]["best_step"] in [row["step"] for row in curve]
    assert record["command"] == "lorank train ..."
    assert "library_name" in (tmp_path / "run/model/README.md").read_text()
    assert "best, step" in write_report(tmp_path / "run").read_text()


@pytest.mark.parametrize("model", OPTIONS)
def test_fit_learns_the_order(model, rows, tmp_path):
    values = []
    for seed in range(3):
        tuned = fit(made(model, rows, seed=seed), rows, out=tmp_path / str(seed), recipe=Recipe(seed=seed))
        run = rerank_run(tuned, rows, rows.train.queries, rows.train.candidates)
        values.append(mean_of(run, rows.train.qrels, "nDCG@10"))
    rng = np.random.default_rng(0)
    drawn = {query: {d: rng.random() for d in row} for query, row in rows.train.candidates.items()}
    assert mean_of(drawn, rows.train.qrels, "nDCG@10") < 0.7
    # a single seed lies between .76 and 1, by a rounding here or there; three of them lie far above chance
    assert np.mean(values) > 0.75


def test_a_boosted_network_takes_a_loss_and_others_none(rows, tmp_path):
    losses = {
        name: fit(made("boosted", rows), rows, loss=name, out=tmp_path / name).score("", rows.documents[:4])
        for name in ("softmax", "lambda")
    }
    assert np.abs(losses["softmax"] - losses["lambda"]).max() > 1e-4
    for model in ("tsprank", "lightgbm"):
        with pytest.raises(UsageError, match=f"{model} learns by its own objective, which does not use loss"):
            fit(made(model, rows), rows, loss="softmax", out=tmp_path / model)


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ({"adapter": "lora"}, "adapter"),
        ({"rank": 4}, "rank"),
        ({"hooks": [Hook()]}, "hooks"),
        ({"resume": True}, "resume"),
        ({"recipe": Recipe(training=OptimizerSettings(steps=3))}, "training.steps"),
        ({"recipe": Recipe(loss=LossSettings("lambda"))}, "loss.name"),
    ],
)
def test_what_has_no_say_is_refused(rows, tmp_path, what, says):
    with pytest.raises(UsageError, match=f"which does not use {says}"):
        fit(made("tsprank", rows), rows, out=tmp_path / "run", **what)
    assert not (tmp_path / "run").exists()


def test_texts_have_no_rows(texts, rows, tmp_path):
    with pytest.raises(UsageError, match="holds texts"):
        fit(made("tsprank", rows), texts, out=tmp_path / "run")


def test_a_run_that_is_there_is_not_overwritten_unasked(rows, tmp_path):
    fit(made("boosted", rows), rows, out=tmp_path / "run")
    with pytest.raises(UsageError, match="already holds a run"):
        fit(made("boosted", rows), rows, out=tmp_path / "run")
    fit(made("boosted", rows), rows, out=tmp_path / "run", overwrite=True)


def test_settings_that_a_model_has_options_for_go_there(rows):
    plan = RecipeFile(base="lightgbm", training=OptimizerSettings(lr=5e-4, patience=9), loss=LossSettings("ranknet"))
    moved = own_options(plan, ["base", "training.lr", "training.patience", "loss.name"], rows)
    assert moved.options == {"lr": 5e-4, "patience": 9, "objective": "ranknet"}  # exact: an option, copied
    assert list_changed_settings(moved) == []
    assert own_options(plan, ["base"], rows).options == {}  # what was not said stays the model's own
    with pytest.raises(UsageError, match="lightgbm .* does not use --rank; it takes --option objective, "):
        own_options(plan, ["adapter.rank"], rows)
    with pytest.raises(UsageError, match="does not use --adapter"):
        own_options(plan, ["adapter.name"], rows)
    with pytest.raises(UsageError, match="does not use --loss"):
        own_options(replace(plan, base="pointer"), ["loss.name"], rows)
    boosted = own_options(replace(plan, base="boosted"), ["loss.name"], rows)
    assert boosted.loss.name == "ranknet"
    assert own_options(replace(plan, base="mlp"), ["adapter.rank"], rows).training.patience == 9


def test_a_recipe_says_which_settings_it_states(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text('data = "d"\nbase = "catboost"\n[options]\ntrees = 30\n[training]\nlr = 5e-4\n')
    assert settings_said(path) == ["data", "base", "options", "training.lr"]
    assert read_recipe(path).options == {"trees": 30}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"tres": 3}, "did you mean 'trees'"),
        ({"trees": "many"}, "trees .* give a whole number"),
        ({"trees": 2.5}, "give a whole number"),
        ({"lr": True}, "give a number"),
        ({"objective": 3}, "give a word"),
        ({"leaves": 1}, "leaves must be 2 or more"),
    ],
)
def test_options_are_checked(rows, options, says):
    with pytest.raises(UsageError, match=says):
        open_base("lightgbm", None, rows, 0, options=options)


def test_a_descending_network_takes_options_of_its_build_only(rows):
    ranker = open_base("mlp", None, rows, 0, options={"hidden": [8], "transform": "standardise"})
    assert ranker.network_options["hidden"] == [8]
    with pytest.raises(UsageError, match="unknown option of feature model 'mlp'"):
        open_base("mlp", None, rows, 0, options={"lr": 0.1})


def test_text_rankers_descend_a_loss(tiny_folders):
    assert CrossEncoder(tiny_folders["bert"]).trained_by_loop


def test_rows_of_a_split_are_a_view_where_they_stand_together(rows, tmp_path):
    write_letor(rows, tmp_path)
    data = read_letor(tmp_path)
    found = feature_rows(data, data.dev)
    assert np.shares_memory(found.features, data.documents)
    at = [data.position[d] for row in data.dev.candidates.values() for d in row]
    assert np.array_equal(found.features, data.documents[at])
    backwards = replace(data.dev, candidates=dict(reversed(data.dev.candidates.items())))
    backwards = replace(backwards, queries=dict(reversed(data.dev.queries.items())))
    turned = feature_rows(data, backwards)
    assert not np.shares_memory(turned.features, data.documents)
    assert np.array_equal(turned.features[:8], found.features[-8:])
