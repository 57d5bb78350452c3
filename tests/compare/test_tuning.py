"""Whole searches on a tiny base: the ledger takes them up, and the best recipe trains."""

import json

import pytest

from lorank.compare.ledger import LEDGER
from lorank.compare.tuning import make_search, tune
from lorank.errors import UsageError
from lorank.training.recipe import RecipeFile, override, read_recipe

SETTINGS = {
    "kind": "bi-encoder",
    "adapter.name": "lora",
    "adapter.rank": 2,
    "lists.negatives": 2,
    "lists.spare": 1.0,
    "lists.depth": 8,
    "training.batch_size": 4,
    "training.evaluations": 1,
    "training.precision": "fp32",
    "keep": "tuned",
}


@pytest.fixture
def recipe(splits, bert):
    return override(RecipeFile(), SETTINGS | {"data": str(splits), "base": bert})


def lines(out):
    return [json.loads(line) for line in (out / LEDGER).read_text().splitlines()][1:]


def test_a_search_writes_the_best_recipe_and_looks_at_dev_alone(recipe, tmp_path):
    over = ["training.lr=1e-6..1e-1:log", "loss.name=softmax,lambda"]
    search = make_search(recipe, over, method="halving", steps=4, least=1, eta=2)
    found = tune(search, tmp_path / "out")
    assert [(each.steps, each.dev is not None) for each in found.tried] == [(1, True)] * 4 + [(2, True)] * 2 + [
        (4, True)
    ]
    assert all(line["result"]["test"] == {} for line in lines(tmp_path / "out"))
    best = read_recipe(found.recipe)
    assert best.training.lr == found.best.configuration["training.lr"]  # exact: copied
    assert best.loss.name == found.best.configuration["loss.name"]
    assert best.training.steps == 4
    assert found.steps == 4 * 1 + 2 * 2 + 1 * 4
    before = (tmp_path / "out" / LEDGER).read_text()
    again = tune(search, tmp_path / "out")
    assert (tmp_path / "out" / LEDGER).read_text() == before
    assert again.best.configuration == found.best.configuration


def test_a_search_by_folds(judged, bert, tmp_path):
    recipe = override(RecipeFile(), SETTINGS | {"data": str(judged), "base": bert})
    search = make_search(recipe, ["training.lr=1e-4,1e-2"], method="random", configurations=1, steps=1, folds=3)
    found = tune(search, tmp_path / "out")
    assert len(lines(tmp_path / "out")) == 3
    assert found.best is not None
    with pytest.raises(UsageError, match="--folds 5"):
        tune(make_search(recipe, ["training.lr=1e-4,1e-2"], steps=1), tmp_path / "other")


def test_a_search_in_which_all_fails_says_so(recipe, tmp_path):
    bad = override(recipe, {"adapter.targets": "no such layer"})
    found = tune(make_search(bad, ["adapter.rank=1,2"], method="random", configurations=2, steps=1), tmp_path / "out")
    assert found.best is None
    assert found.recipe is None
    assert "no such layer" in found.tried[0].failed


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ("adapter.name=lora,dorra", "did you mean 'dora'"),
        ("loss.name=softmax,lamda", "did you mean 'lambda'"),
        ("adapter.rank=-4..16", "rank is -4"),
        ("training.lr=-1..1", "lr is -1"),
    ],
)
def test_names_that_do_not_exist_and_ends_out_of_range_are_refused_before_anything_runs(recipe, over, message):
    with pytest.raises(UsageError, match=message):
        make_search(recipe, [over], steps=4)
