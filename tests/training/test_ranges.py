"""Numbers of a recipe that cannot be are refused by name, from the command before data is read and from Python."""

import math
from dataclasses import fields, is_dataclass, replace

import pytest

from lorank.errors import UsageError
from lorank.ranking.scorers import BiEncoder
from lorank.training import fit
from lorank.training.checks import check_names
from lorank.training.ranges import RANGES, check_ranges
from lorank.training.recipe import RecipeFile, override
from lorank.training.settings import Recipe

WILD = (-1, -0.5, 1e12, math.nan, math.inf, -math.inf)


def with_value(setting, value):
    kind = float if setting not in WHOLE else int
    if setting == "training.betas":
        value = (value, 0.9)
    elif setting == "first_stage.grid":
        value = (0.0, value)
    elif kind is int:
        value = int(value)
    section, _, key = setting.rpartition(".")
    recipe = Recipe()
    if not section:
        return replace(recipe, **{key: value})
    return replace(recipe, **{section: replace(getattr(recipe, section), **{key: value})})


WHOLE = {
    f"{section.name}.{each.name}"
    for section in fields(Recipe)
    if is_dataclass(getattr(Recipe(), section.name))
    for each in fields(getattr(Recipe(), section.name))
    if str(each.type).startswith("int")
}


def test_the_defaults_lie_in_their_ranges():
    check_ranges(Recipe())
    check_ranges(RecipeFile())


@pytest.mark.parametrize("setting", RANGES)
def test_what_lies_outside_is_named_with_what_is_legal(setting):
    for value in WILD:
        if RANGES[setting].holds(value) or (setting in WHOLE and value not in (-1,)):
            continue
        with pytest.raises(UsageError, match=rf"^{setting} is .*; give a number (from|above) "):
            check_ranges(with_value(setting, value))


def test_every_number_of_a_recipe_has_a_range_or_is_checked_where_it_is_used():
    elsewhere = {"adapter.alpha", "lists.spare"}
    for section in fields(Recipe):
        part = getattr(Recipe(), section.name)
        if not is_dataclass(part) or section.name == "reading":  # a ranker checks how it reads when it is opened
            continue
        for each in fields(part):
            if ("int" in str(each.type) or "float" in str(each.type)) and each.name != "options":
                assert f"{section.name}.{each.name}" in RANGES.keys() | elsewhere


def test_a_command_says_its_option_and_a_recipe_file_its_key(tmp_path):
    plan = override(RecipeFile(), {"training.batch_size": 0})
    with pytest.raises(UsageError, match=r"^--batch-size is 0; give a number from 1 up"):
        check_names(plan, {"training.batch_size"})
    with pytest.raises(UsageError, match=r"recipe\.toml: training\.batch_size is 0"):
        check_names(plan, (), tmp_path / "recipe.toml")


@pytest.mark.parametrize("setting", ["training.lr", "lists.negatives", "training.batch_size", "training.warmup"])
def test_python_is_told_before_any_work(setting, texts, bert, tmp_path):
    with pytest.raises(UsageError, match=f"{setting} is -1; give a number from"):
        fit(BiEncoder(bert), texts, "lora", out=tmp_path / "run", recipe=with_value(setting, -1))
    assert not (tmp_path / "run").exists()
