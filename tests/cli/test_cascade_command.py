"""`lorank train --cascade`: from a command to a folder that other commands take, and what it refuses."""

import json

import pytest
from typer.testing import CliRunner

from lorank.cli.app import app
from lorank.data import read_run, write_beir
from lorank.errors import UsageError

QUICK = ["--steps", "3", "--batch-size", "4", "--negatives", "3", "--rank", "2", "--set", "cross.training.steps=3"]


def lorank(*arguments):
    return CliRunner().invoke(app, [str(each) for each in arguments])


def test_the_command_trains_both_steps_and_its_folder_reranks(marked, tiny_folders, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_beir(marked, tmp_path / "data")
    out = tmp_path / "run"
    stated = ["train", "--cascade", "--data", tmp_path / "data", "--base", tiny_folders["bert"], *QUICK]
    done = lorank(*stated, "--set", "cross.lists.negatives=3", "--set", "cascade.depth=6", "--out", out)
    assert done.exit_code == 0, done.output
    assert "| cross-encoder |" in done.stdout
    assert done.stdout.rstrip().endswith(str(out / "model"))
    assert json.loads((out / "run.json").read_text())["recipe"]["cross"]["training"] == {"steps": 3}
    first = tmp_path / "first.run"
    assert lorank("retrieve", "--data", tmp_path / "data", "--out", first).exit_code == 0
    reranked = lorank(
        "rerank", "--ranker", out, "--data", tmp_path / "data", "--run", first, "--out", tmp_path / "second.run"
    )
    assert reranked.exit_code == 0, reranked.output
    assert {q: set(row) for q, row in read_run(tmp_path / "second.run").items()} == {
        q: set(row) for q, row in read_run(first).items()
    }
    judged = lorank("evaluate", "--data", tmp_path / "data", "--ranker", out, "--run", first, "--json")
    assert judged.exit_code == 0, judged.output
    again = lorank(*stated, "--out", out)
    assert isinstance(again.exception, UsageError)
    assert "--resume" in str(again.exception)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--folds", "3"], "--folds trains one ranker"),
        (["--kind", "cross-encoder"], "begins with a bi-encoder"),
        (["--save-recipe", "x.toml"], "--save-recipe"),
        (["--track", "tensorboard"], "--track"),
        (["--minutes", "3"], "cross.training.minutes"),
        (["--set", "cross.training.lrr=1"], "did you mean 'lr'"),
        (["--policy", "setwise"], "policy.name"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_before_anything_is_read(options, said, tmp_path):
    done = lorank("train", "--cascade", "--data", "pydocs", "--out", tmp_path / "run", *options)
    assert isinstance(done.exception, UsageError)
    assert said in str(done.exception)
    assert not (tmp_path / "run").exists()


def test_settings_of_a_cross_encoder_need_the_option(tmp_path):
    done = lorank("train", "--data", "pydocs", "--out", tmp_path / "run", "--set", "cross.training.lr=1e-3")
    assert isinstance(done.exception, UsageError)
    assert "give --cascade" in str(done.exception)
