"""A run without a stated rate steps at its method's own, says so, and names an update that hardly moved."""

import json
import warnings

import pytest

from lorank.lowrank.forms import LoRA
from lorank.lowrank.rates import default_rate
from lorank.ranking.scorers import BiEncoder, CrossEncoder, FeatureRanker
from lorank.training import fit
from lorank.training.movement import LEAST_SHARE, LORA_MOVED, Movement, MovementWarning
from lorank.training.plan import resolve_recipe
from lorank.training.rates import resolve_rate
from lorank.training.recipe import RecipeFile, override, read_recipe
from lorank.training.settings import (
    HEAD_RATE,
    AdapterSettings,
    BudgetSettings,
    ListSettings,
    OptimizerSettings,
    Recipe,
    RuleSettings,
)
from tiny_collections import planted

pytestmark = pytest.mark.usefixtures("own_cache")


def recipe(**training):
    return Recipe(
        training=OptimizerSettings(batch_size=8, evaluations=1, **{"steps": 2, **training}),
        lists=ListSettings(negatives=1, depth=150, spare=1.0),
    )


def resolved(ranker, data, settings):
    settings, budget = resolve_recipe(ranker, data, settings)
    return resolve_rate(settings, budget, ranker)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (Recipe(adapter=AdapterSettings("vera")), "vera"),
        (Recipe(adapter=AdapterSettings("lora", start="lora-ga")), "lora-ga"),
        (Recipe(rule=RuleSettings("loft")), "loft"),
        (Recipe(budget=BudgetSettings("adalora")), "adalora"),
        (Recipe(), "lora"),
    ],
)
def test_the_rate_is_that_of_the_method_whichever_axis_names_it(texts, bert, settings, name):
    found = resolved(BiEncoder(bert), texts, settings)
    assert (found.lr, found.source) == (default_rate(name).value, default_rate(name).source)  # exact: copied
    assert found.head_lr == HEAD_RATE  # exact: copied


def test_a_stated_rate_is_used_for_heads_too(texts, bert):
    found = resolved(CrossEncoder(bert), texts, recipe(lr=0.25))
    assert (found.lr, found.head_lr, found.source) == (0.25, None, "stated")  # exact: copied


def test_what_starts_from_nothing_learns_at_the_rate_of_heads_and_a_base_at_a_smaller_one(texts, rows, bert):
    assert resolved(FeatureRanker(), rows, recipe()).lr == HEAD_RATE  # exact: copied
    whole = Recipe(adapter=AdapterSettings("full"))
    assert resolved(BiEncoder(bert), texts, whole).lr < HEAD_RATE


def test_the_record_holds_the_number_and_where_it_comes_from(bert, tmp_path):
    fit(BiEncoder(bert), planted(0), "vera", out=tmp_path / "own", recipe=recipe())
    fit(BiEncoder(bert), planted(0), "vera", out=tmp_path / "stated", recipe=recipe(lr=0.01))
    own, stated = (json.loads((tmp_path / name / "run.json").read_text()) for name in ("own", "stated"))
    rate = default_rate("vera").value
    assert own["settings"]["training"]["lr"] == own["rate"]["lr"] == rate  # exact: copied
    assert own["rate"]["from"] == "form vera"
    assert (stated["rate"]["lr"], stated["rate"]["from"]) == (0.01, "stated")  # exact: copied


def test_a_recipe_says_default_or_a_number(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text('data = "d"\n[training]\nlr = "default"\n')
    assert read_recipe(path).training.lr == "default"
    assert override(RecipeFile(), {"training.lr": 0.5}).training.lr == 0.5  # exact: copied
    assert OptimizerSettings().rate == LoRA.lr  # exact: copied


def test_an_update_that_hardly_moves_is_named_with_what_to_try(bert, tmp_path):
    with pytest.warns(MovementWarning, match="hardly moved the weights.*try --lr .*the rate of these methods"):
        tuned = fit(BiEncoder(bert), planted(0), "lora", out=tmp_path / "still", recipe=recipe(lr=1e-9))
    assert len(tuned.notes) == 1
    movement = json.loads((tmp_path / "still" / "run.json").read_text())["movement"]
    assert movement["sentence"] == tuned.notes[0]
    assert movement["moved"] < movement["least"]
    with warnings.catch_warnings():
        warnings.simplefilter("error", MovementWarning)
        tuned = fit(BiEncoder(bert), planted(0), "lora", out=tmp_path / "moved", recipe=recipe(steps=6, lr=1e-2))
    assert tuned.notes == []


def test_the_least_movement_grows_with_the_steps_up_to_those_of_lora():
    assert Movement(0.0, {}, 15).least == pytest.approx(LEAST_SHARE * LORA_MOVED / 2)
    assert Movement(0.0, {}, 3000).least == pytest.approx(LEAST_SHARE * LORA_MOVED)
    assert Movement(0.0, {}, 0).describe("lora", 1e-3, 1e-3) is None
    said = Movement(0.0, {"a": 0.0}, 30).describe("lora", 1e-3, 1e-3)
    assert said is not None
    assert "try --lr 0.01, or more --steps" in said
