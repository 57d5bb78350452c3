"""Every setting by name: options of methods in their sections, run.json as a recipe, recipes written down."""

import json
import re
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from lorank.cli.app import app
from lorank.data import write_beir
from lorank.errors import UsageError
from lorank.lowrank.budgets import DYNAMIC
from lorank.lowrank.forms.form import FORMS, form_options
from lorank.lowrank.rules import RULES, rule_options
from lorank.lowrank.starts import STARTS, start_named, start_options
from lorank.training.checks import check_options
from lorank.training.hooks.budget import budget_options
from lorank.training.recipe import RecipeError, RecipeFile, override, read_recipe
from lorank.training.recipe_text import recipe_text, write_recipe
from lorank.training.settings import AdapterSettings, StartSettings, as_plain


@pytest.mark.parametrize(
    ("adapter", "setting", "value", "where"),
    [
        ("eva", "start.rho", 3.0, ("start", "rho")),
        ("lora-ga", "start.gamma", 8.0, ("start", "gamma")),
        ("adalora", "budget.warmup", 0.2, ("budget", "warmup")),
        ("lora-plus", "rule.ratio", 4.0, ("rule", "ratio")),
        ("gralora", "adapter.k", 2, ("adapter", "k")),
    ],
)
def test_a_methods_option_is_a_key_of_its_section(adapter, setting, value, where):
    section, option = where
    known = {
        "start": lambda: start_options(adapter),
        "budget": lambda: budget_options(adapter),
        "rule": lambda: rule_options(adapter),
        "adapter": lambda: form_options(adapter),
    }[section]()
    if option not in known:  # an option of that name is not what this method has: take one that it has
        setting, option = f"{section}.{known[0]}", known[0]
    plan = override(override(RecipeFile(), {"adapter.name": adapter}), {setting: value})
    assert getattr(plan, section).options == {option: value}
    assert plan == override(override(RecipeFile(), {"adapter.name": adapter}), {f"{section}.options.{option}": value})


def test_options_in_a_recipe_file_and_the_loss(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(
        '[adapter]\nname = "lora"\n[start]\nname = "eva"\nrho = 3.0\n[loss]\nname = "ranknet"\nsigma = 2.0\n'
    )
    plan = read_recipe(path)
    assert plan.adapter.start == "eva"
    assert plan.start.options == {"rho": 3.0}  # exact: read
    assert plan.loss.options == {"sigma": 2.0}  # exact: read
    path.write_text('[adapter]\nstart = "svd"\n[start]\nname = "eva"\n')
    with pytest.raises(UsageError, match="are the same key"):
        read_recipe(path)


@pytest.mark.parametrize(
    ("names", "setting", "says"),
    [
        ({"adapter.name": "eva"}, "start.roh", "did you mean 'rho'"),
        ({"adapter.name": "eva"}, "adapter.rnak", "did you mean 'rank'"),
        ({"loss.name": "ranknet"}, "loss.sgima", "did you mean 'sigma'"),
        ({"rule.name": "lora-plus"}, "rule.raito", "did you mean 'ratio'"),
        ({"adapter.name": "adalora"}, "budget.wramup", "did you mean 'warmup'"),
        ({}, "reading.max_lenght", "did you mean 'max_length'"),
        ({}, "reading.similarity", "known: cosine, dot"),
    ],
)
def test_a_slip_is_met_with_the_nearest_name_of_the_section(names, setting, says):
    with pytest.raises(RecipeError, match=re.escape(says)):
        override(override(RecipeFile(), names), {setting: "x"})


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        (RecipeFile(adapter=AdapterSettings("lora", options={"copeis": 1})), "option of adapter"),
        (RecipeFile(adapter=AdapterSettings("eva"), start=StartSettings({"roh": 1.0})), "did you mean 'rho'"),
        (RecipeFile(adapter=AdapterSettings("full", options={"a": 1})), "has no options"),
    ],
)
def test_options_that_no_method_has_are_refused_before_any_work(plan, says):
    with pytest.raises(UsageError, match=says):
        check_options(plan)


def test_every_methods_options_can_be_asked_for():
    for name in FORMS:
        assert "site" not in form_options(name)
    for name in STARTS:
        options = start_options(name)
        assert start_named(name, {}) is STARTS[name]
        assert all(hasattr(STARTS[name], option) for option in options)
    for name in RULES:
        assert "self" not in rule_options(name)
    for name in DYNAMIC:
        assert {"warmup", "final", "every"} <= set(budget_options(name))


@pytest.mark.parametrize(
    "plan",
    [
        RecipeFile(),
        RecipeFile(data='a "b" \\ c\n', base="minilm", label=1, options={"hidden": [32, 16], "trees": 3}),
        override(
            RecipeFile(),
            {
                "adapter.name": "eva",
                "start.rho": 3,
                "reading.query_prefix": "query: é",
                "reading.answers": ["yes", "no"],
                "training.clip": None,
                "training.betas": [0.8, 0.9],
                "adapter.exclude": ["head"],
            },
        ),
    ],
)
def test_a_recipe_that_is_written_down_reads_back_the_same(plan, tmp_path):
    write_recipe(plan, tmp_path / "recipe.toml")
    back = read_recipe(tmp_path / "recipe.toml")
    assert replace(back, training=plan.training) == plan
    assert replace(back.training, clip=plan.training.clip) == plan.training  # None is left out, and so the default
    assert "[first_stage]" in recipe_text(plan)


def test_run_json_is_a_recipe(tmp_path):
    plan = override(RecipeFile(data="pydocs", base="minilm"), {"adapter.rank": 4, "reading.max_length": 64, "seed": 3})
    record = {"settings": {"ranker": {"kind": "bi-encoder", "base": "minilm"}, **as_plain(plan)}}
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert read_recipe(tmp_path / "run.json") == plan
    python = {key: value for key, value in record["settings"].items() if key not in ("data", "base")}
    python["ranker"] = {"kind": "bi-encoder", "base": "minilm", "max_length": 64, "pooling": "mean"}
    (tmp_path / "run.json").write_text(json.dumps({"settings": python, "collection": {"name": "pydocs"}}))
    back = read_recipe(tmp_path / "run.json")
    assert (back.data, back.base, back.kind, back.reading.pooling) == ("pydocs", "minilm", "bi-encoder", "mean")
    for bad in ("[]", "{}", "{"):
        (tmp_path / "run.json").write_text(bad)
        with pytest.raises(Exception, match="not the record of a run"):
            read_recipe(tmp_path / "run.json")
    with pytest.raises(UsageError, match=r"is a folder, not a recipe; its recipe is .*run.json"):
        read_recipe(tmp_path)


def invoke(*arguments):
    done = CliRunner().invoke(app, [*map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.stderr
    return done


def test_a_run_with_every_kind_of_setting_is_run_again_from_its_run_json(texts, tiny_folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_beir(texts, tmp_path / "beir")
    common = ["--data", "beir", "--base", tiny_folders["bert"], "--kind", "bi-encoder", "--adapter", "eva"]
    settings = ["start.rho=1.5", "adapter.alpha=4", "adapter.dropout=0.1", "adapter.calibration_batches=2"]
    settings += [
        "reading.query_prefix=query: ",
        "reading.pooling=cls",
        "reading.temperature=0.1",
        'adapter.targets=["query"]',
    ]
    options = [part for setting in settings for part in ("--set", setting)]
    options += ["--steps", 2, "--batch-size", 4, "--negatives", 2, "--max-length", 40, "--long", "max"]
    invoke("train", *common, *options, "--out", "runs/first")
    card = json.loads((tmp_path / "runs/first/model/lorank.json").read_text())["options"]
    assert (card["query_prefix"], card["pooling"], card["max_length"], card["long"]) == ("query: ", "cls", 40, "max")
    assert card["temperature"] == pytest.approx(0.1)
    adapter = json.loads((tmp_path / "runs/first/model/adapter/adapter_config.json").read_text())
    assert adapter["target_modules"] == ["query"]
    again = invoke("train", "runs/first/run.json", "--out", "runs/second")
    assert "runs/second" in again.stdout
    first, second = (json.loads((tmp_path / f"runs/{n}/run.json").read_text())["settings"] for n in ("first", "second"))
    assert {**first, "out": None} == {**second, "out": None}
    refused = CliRunner().invoke(app, ["train", "runs/first/run.json"])
    assert "already holds a run" in str(refused.exception)


def test_a_recipe_is_saved_without_training(texts, tiny_folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_beir(texts, tmp_path / "beir")
    common = ["--data", "beir", "--base", tiny_folders["bert"], "--kind", "bi-encoder", "--rank", 3]
    saved = invoke("train", *common, "--set", "reading.pooling=cls", "--save-recipe", "r.toml")
    assert saved.stdout.strip() == "r.toml"
    plan = read_recipe(tmp_path / "r.toml")
    assert (plan.adapter.name, plan.adapter.rank, plan.kind, plan.reading.pooling) == ("lora", 3, "bi-encoder", "cls")
    assert not (tmp_path / "runs").exists()
    small = ["--steps", 1, "--batch-size", 4, "--negatives", 2]
    assert "runs/x" in invoke("train", "--recipe", "r.toml", *small, "--out", "runs/x").stdout
    with pytest.raises(UsageError, match="two recipes"):
        invoke("train", "r.toml", "--recipe", "r.toml")
