import re
from dataclasses import replace

import pytest

from lorank.errors import DataError, UsageError
from lorank.training.recipe import RecipeError, RecipeFile, override, read_recipe
from lorank.training.recipe_text import write_recipe
from lorank.training.settings import AdapterSettings, FirstStageSettings, Recipe

GOOD = """
data = "pydocs"
base = "minilm"
seed = 3
[adapter]
name = "dora"
rank = 4
[loss]
name = "lambda"
options = { sigma = 2.0 }
[training]
lr = 1e-3
steps = 10
"""


def written(tmp_path, text):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return path


def test_a_recipe_names_what_it_changes_and_keeps_the_defaults(tmp_path):
    recipe = read_recipe(written(tmp_path, GOOD))
    assert (recipe.data, recipe.base, recipe.seed) == ("pydocs", "minilm", 3)
    assert (recipe.adapter.name, recipe.adapter.rank, recipe.loss.options) == (
        "dora",
        4,
        {"sigma": 2.0},
    )  # exact: read, not computed
    assert (recipe.training.lr, recipe.training.steps) == (1e-3, 10)  # exact: read, not computed
    assert recipe.training.batch_size == Recipe().training.batch_size


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[adapter]\nrnak = 4\n", "adapter.rnak"),
        ("[training]\nlr = 'fast'\n", "training.lr"),
        ("nonsense = 1\n", "nonsense"),
        ("[training]\ndecay = 'cubic'\n", "training.decay"),
        ("lr = = 3\n", "TOML"),
    ],
)
def test_a_bad_recipe_names_file_and_key(tmp_path, text, names):
    with pytest.raises(DataError, match=rf"recipe\.toml.*{names}"):
        read_recipe(written(tmp_path, text))


def test_a_missing_recipe(tmp_path):
    with pytest.raises(UsageError, match="no such recipe"):
        read_recipe(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"adapter.rnak": 4}, "adapter.rnak: there is no such key; did you mean 'rank'"),
        ({"trainng.lr": 1e-3}, "trainng: there is no such key; did you mean 'training'"),
        ({"training.lr": "fast"}, "training.lr: "),
    ],
)
def test_settings_on_the_command_line_are_checked_by_name_and_type(given, says):
    with pytest.raises(RecipeError, match=re.escape(says)):
        override(RecipeFile(), given)


def test_settings_on_the_command_line_change_what_they_name_and_nothing_else():
    plan = RecipeFile(adapter=AdapterSettings("vera", rank=3, options={"d": 1}), base="minilm")
    changed = override(plan, {"adapter.options.b": 2, "training.warmup": 0.5, "seed": 7})
    assert changed.adapter == AdapterSettings("vera", rank=3, options={"d": 1, "b": 2})
    assert changed == replace(
        plan, adapter=changed.adapter, training=replace(plan.training, warmup=changed.training.warmup), seed=7
    )
    assert changed.training.warmup == pytest.approx(0.5)


def test_the_first_stage_has_a_section_of_that_name_and_the_old_one(tmp_path):
    for section in ("first_stage", "offset"):
        assert read_recipe(written(tmp_path, f'[{section}]\nsource = "none"\n')).first_stage.source == "none"
    with pytest.raises(UsageError, match="the same section"):
        read_recipe(written(tmp_path, '[first_stage]\nsource = "none"\n[offset]\nsource = "bm25"\n'))
    assert override(RecipeFile(), {"offset.source": "none"}).first_stage.source == "none"


def test_the_first_stage_of_0_1_is_called_offset_in_records_and_in_python(tmp_path):
    (tmp_path / "run.json").write_text('{"settings": {"offset": {"source": "fusion", "grid": [0.5, "inf"]}}}')
    assert read_recipe(tmp_path / "run.json").first_stage == FirstStageSettings("fusion", (0.5, float("inf")))
    with pytest.warns(DeprecationWarning, match="FirstStageSettings"):
        from lorank.training import OffsetSettings
    with pytest.warns(DeprecationWarning, match="FirstStageSettings"):
        from lorank.training.settings import OffsetSettings as SameSettings
    assert OffsetSettings is SameSettings is FirstStageSettings
    for recipe in (Recipe, RecipeFile):
        with pytest.warns(DeprecationWarning, match="first_stage"):
            old = recipe(offset=OffsetSettings("none"))
        assert old == recipe(first_stage=FirstStageSettings("none"))
        with pytest.warns(DeprecationWarning, match="first_stage"):
            assert replace(recipe(), offset=OffsetSettings("none")) == old
        with pytest.warns(DeprecationWarning, match="first_stage"):
            assert old.offset.source == "none"


def test_a_written_recipe_calls_the_first_stage_so(tmp_path):
    plan = RecipeFile(first_stage=FirstStageSettings("none"))
    write_recipe(plan, tmp_path / "made.toml")
    assert "[first_stage]" in (tmp_path / "made.toml").read_text()
    assert read_recipe(tmp_path / "made.toml") == plan
