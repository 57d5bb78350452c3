"""The recipe of a cascade: what reaches which step, and what is refused before anything is read."""

import pytest

from lorank.errors import UsageError
from lorank.training.cascade.settings import GRID, bi_recipe, check_cascade, cross_recipe, recipes_of
from lorank.training.checks import check_names, check_options
from lorank.training.recipe import RecipeError, RecipeFile, override, read_recipe, settings_said
from lorank.training.recipe_text import write_recipe
from lorank.training.settings import HEAD_RATE

CASCADE = {"cascade.enabled": True, "base": "minilm"}


def plan_of(**changes):
    return override(RecipeFile(), CASCADE | {key.replace("__", "."): value for key, value in changes.items()})


def check(plan):
    """What the command checks before it reads anything."""
    check_names(plan)
    check_cascade(plan)
    for each in recipes_of(plan):
        check_options(each)


def test_settings_reach_the_step_that_they_name():
    plan = plan_of(training__lr=3e-4, cross__training__lr=2e-3, cross__adapter__rank=4, seed=7, cascade__depth=30)
    check(plan)
    bi, cross = bi_recipe(plan), cross_recipe(plan)
    assert (bi.kind, cross.kind) == ("bi-encoder", "cross-encoder")
    assert (bi.training.lr, cross.training.lr) == (3e-4, 2e-3)  # exact: read
    assert (bi.adapter.rank, cross.adapter.rank) == (None, 4)
    assert bi.seed == cross.seed == 7
    assert cross.lists.depth == 30
    assert not bi.cascade.enabled
    assert not bi.cross


def test_the_new_head_has_a_rate_of_its_own_beside_a_stated_one():
    assert cross_recipe(plan_of(cross__training__lr=2e-3)).training.head_lr == HEAD_RATE  # exact: read
    assert cross_recipe(plan_of(cross__training__head_lr=0.01)).training.head_lr == 0.01  # exact: read


def test_a_recipe_file_and_options_are_one_recipe(tmp_path):
    path = tmp_path / "cascade.toml"
    path.write_text(
        'base = "minilm"\n[cascade]\nenabled = true\ndepth = 10\n'
        "[cross]\nseed = 2\n[cross.training]\nlr = 1e-3\nsteps = 5\n"
    )
    plan = override(read_recipe(path), {"cross.training.steps": 9, "cross.adapter.name": "dora"})
    cross = cross_recipe(plan)
    assert (cross.seed, cross.training.lr, cross.training.steps, cross.adapter.name) == (
        2,
        1e-3,
        9,
        "dora",
    )  # exact: read
    assert "cascade.depth" in settings_said(path)
    write_recipe(plan, tmp_path / "again.toml")
    again = read_recipe(tmp_path / "again.toml")
    assert again == plan
    assert cross_recipe(again) == cross


def test_the_options_of_a_method_are_keys_of_its_section_here_too():
    cross = cross_recipe(plan_of(cross__loss__name="ranknet", cross__loss__sigma=2.0))
    assert cross.loss.options == {"sigma": 2.0}  # exact: read


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cross__training__lrr": 1.0}, "cross: training.lrr: there is no such key; did you mean 'lr'"),
        ({"cross__training__lr": "fast"}, "cross: training.lr"),
        ({"cross__training__lr": -1.0}, "cross: training.lr is -1; give a number"),
        ({"cross__adapter__name": "lorra"}, "cross: adapter.name: .*did you mean 'lora'"),
        ({"cross__lists__depth": 5}, "cross.lists.depth: cascade.depth"),
        ({"cross__first_stage__source": "bm25"}, "cross.first_stage.source: its first stage is the bi-encoder's mix"),
        ({"cross__keep": "tuned"}, "cross.keep: dev decides"),
        ({"cross__data": "pydocs"}, "cross.data: the cascade has one collection"),
        ({"cross__kind": "bi-encoder"}, "cross.kind"),
        ({"cross__first_stage__grid": [0.5, 1.0]}, "cross.first_stage.grid: .* 0 among them"),
        ({"cross__first_stage__grid": [0.0, float("inf")]}, "cross.first_stage.grid: .*finite"),
        ({"cross__lists__free_queries": "titles"}, "give --free-queries titles too"),
        ({"training__minutes": 5.0}, "--set cross.training.minutes"),
        ({"cascade__depth": 0}, "cascade.depth is 0; give a number from 1 up"),
        ({"cascade__least_gain": float("nan")}, "cascade.least_gain is nan"),
        ({"kind": "cross-encoder"}, "--kind cross-encoder: a cascade begins with a bi-encoder"),
        ({"keep": "tuned"}, "keep is"),
        ({"compress__name": "pela"}, "compress.name is pela"),
        ({"cross__policy__name": "setwise"}, "cross.policy.name is setwise"),
        ({"clicks": "log.jsonl"}, "--clicks"),
        ({"then": ["cranfield"]}, "--then"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_with_what_does(changes, said):
    with pytest.raises((UsageError, RecipeError), match=said):
        check(plan_of(**changes))


def test_options_of_methods_are_checked_under_cross_too():
    with pytest.raises(UsageError, match="sigma"):
        check(plan_of(cross__loss__options={"sigma": "wide"}, cross__loss__name="ranknet"))


def test_settings_of_a_cross_encoder_need_a_cascade():
    with pytest.raises(UsageError, match="cross.training.lr: only a cascade .* give --cascade"):
        check(override(RecipeFile(), {"cross.training.lr": 1e-3}))


def test_the_grid_of_a_correction_is_that_of_a_mix_without_standing_alone():
    assert GRID[0] == 0.0  # exact: read
    assert max(GRID) < float("inf")
