"""Whole cascades on tiny models: steps that pay and steps that do not, one folder, and runs that were killed."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from markupsafe import escape

import lorank
from lorank.data import write_beir
from lorank.errors import UsageError
from lorank.reporting import write_report
from lorank.training.cascade.fitting import fit_cascade
from lorank.training.cascade.steps import steps_table
from lorank.training.lists.retrieval import bm25_index
from lorank.training.recipe import RecipeFile, override, read_recipe
from lorank.tuned.open_ranker import open_ranker
from lorank.tuned.ranker import rerank_run

pytestmark = pytest.mark.usefixtures("own_cache")

IDLE = {"training.steps": 1, "training.lr": 0.0}
LEARNS = {"training.steps": 60, "training.lr": 1e-2, "training.head_lr": 1e-2, "training.batch_size": 8}
COMMON = {
    "training.evaluations": 2,
    "training.precision": "fp32",
    "lists.negatives": 5,
    "adapter.rank": 8,
    "cross.training.evaluations": 2,
    "cross.lists.negatives": 5,
    "cross.adapter.rank": 8,
    "cascade.depth": 14,
}


def plan_of(base, bi, cross, **more):
    stated = COMMON | bi | {f"cross.{key}": value for key, value in cross.items()} | more
    return override(RecipeFile(base=base), stated)


@pytest.fixture(scope="module")
def pays(marked, tiny_folders, tmp_path_factory):
    """A cascade whose bi-encoder does not learn and whose cross-encoder does, and its run folder."""
    home = tmp_path_factory.mktemp("pays")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(home / "cache"))
        done = fit_cascade(plan_of(str(tiny_folders["bert"]), IDLE, LEARNS), marked, home / "run")
    return done, home / "run"


def test_a_cross_encoder_that_learns_what_the_mix_cannot_know_is_kept(pays):
    done, _ = pays
    first, bi, cross = done.steps
    assert [step.name for step in done.steps] == ["first stage", "bi-encoder", "cross-encoder"]
    assert cross.kept
    assert cross.gain > 0.02
    assert cross.value == pytest.approx(bi.value + cross.gain)
    assert bi.value >= first.value - 1e-9
    assert cross.documents <= 14
    assert cross.seconds > 0
    assert "is kept" in cross.sentence
    assert done.tuned.second_stage.mix.weight > 0
    assert "| cross-encoder |" in steps_table(done.steps)
    assert bi.kept or bi.sentence == "The bi-encoder is put away: dev gives its score no weight."
    test = done.judged.systems
    assert test["cascade"].mean["nDCG@10"] > test["bi-encoder"].mean["nDCG@10"]


def test_its_report_shows_the_steps(pays, tmp_path):
    done, out = pays
    page = write_report(out, tmp_path / "report.html").read_text()
    assert 'id="cascade-table"' in page
    for step in done.steps:
        assert f'<th scope="row">{step.name}</th>' in page
        assert str(escape(step.sentence)) in page


def test_its_folder_is_one_ranker_and_a_recipe(pays, marked):
    done, out = pays
    again = open_ranker(str(out))
    documents = list(marked.documents[:20])
    assert again.score("orbits sun", documents).tolist() == pytest.approx(
        done.tuned.score("orbits sun", documents).tolist(), abs=1e-3
    )
    run = bm25_index(marked).search(marked.test.queries, 100)
    one, two = (rerank_run(ranker, marked, marked.test.queries, run) for ranker in (again, done.tuned))
    for query, row in one.items():
        assert list(row.values()) == pytest.approx(list(two[query].values()), abs=1e-3)
    record = json.loads((out / "run.json").read_text())
    assert record["cascade"]["kept"] == [step.name for step in done.steps if step.kept]
    assert "The cross-encoder is kept" in (out / "model" / "README.md").read_text()
    plan = read_recipe(out / "run.json")
    assert plan.cascade.enabled
    assert plan.cross["training"]["steps"] == LEARNS["training.steps"]
    assert set(json.loads((out / "results.json").read_text())["systems"]) == {"first stage", "bi-encoder", "cascade"}


def test_its_steps_are_rankers_of_their_own_and_its_folder_is_not_written_over(pays, marked):
    _, out = pays
    for name in ("bi-encoder", "cross-encoder"):
        assert lorank.load_ranker(out / name).second_stage is None
    with pytest.raises(UsageError, match="already holds a run"):
        fit_cascade(RecipeFile(base="minilm"), marked, out)


def test_a_cross_encoder_that_learns_nothing_is_put_away(marked, bert, tmp_path):
    done = fit_cascade(plan_of(bert, LEARNS, IDLE, judge_test=False), marked, tmp_path / "run")
    cross = done.steps[-1]
    assert not cross.kept
    assert "no weight" in cross.sentence
    assert done.tuned.second_stage is None
    assert done.judged is None
    assert not (tmp_path / "run" / "model" / "second_stage").exists()
    bi, whole = lorank.load_ranker(tmp_path / "run" / "bi-encoder"), lorank.load_ranker(tmp_path / "run")
    documents = list(marked.documents[:9])
    assert whole.score("moon", documents).tolist() == pytest.approx(bi.score("moon", documents).tolist(), abs=1e-4)
    assert done.steps[1].value >= done.steps[0].value - 1e-9


def test_a_gain_that_is_too_small_to_pay_is_put_away(marked, bert, tmp_path):
    plan = plan_of(bert, IDLE, LEARNS | {"training.steps": 2}, judge_test=False)
    done = fit_cascade(override(plan, {"cascade.least_gain": 1.0}), marked, tmp_path / "run")
    assert not done.steps[-1].kept
    assert done.tuned.second_stage is None


def test_feature_rows_are_refused(rows, tmp_path):
    with pytest.raises(UsageError, match="a cascade reads texts"):
        fit_cascade(RecipeFile(), rows, tmp_path / "run")


SCRIPT = """
import os, signal, sys
from lorank.data import load
from lorank.training.cascade.fitting import fit_cascade
from lorank.training.recipe import read_recipe

recipe, data, out, resume = sys.argv[1:]

def kill(what, done, total):
    if resume == "fresh" and what.startswith("cross-encoder: train") and done:
        os.kill(os.getpid(), signal.SIGKILL)

fit_cascade(read_recipe(recipe), load(data), out, resume=resume == "resume", on_progress=kill)
"""


@pytest.mark.slow
def test_a_cascade_that_was_killed_goes_on_and_trains_no_step_twice(marked, bert, tmp_path):
    from lorank.training.recipe_text import write_recipe

    short = {"training.steps": 4, "training.lr": 5e-3, "training.checkpoint_seconds": 0.0}
    plan = plan_of(bert, short, short, judge_test=False)
    write_recipe(plan, tmp_path / "recipe.toml")
    write_beir(marked, tmp_path / "data")
    out = tmp_path / "run"

    def start(resume):
        command = [
            sys.executable,
            "-c",
            SCRIPT,
            str(tmp_path / "recipe.toml"),
            str(tmp_path / "data"),
            str(out),
            resume,
        ]
        return subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=600)

    assert start("fresh").returncode == -9
    record = out / "bi-encoder" / "run.json"
    before = record.stat().st_mtime_ns
    assert not (out / "model").exists()
    with pytest.raises(UsageError, match="a cascade that did not end; .*--resume"):
        open_ranker(str(out))
    with pytest.raises(UsageError, match="training.steps = 4, and is resumed with 5"):
        fit_cascade(override(read_recipe(tmp_path / "recipe.toml"), {"training.steps": 5}), marked, out, resume=True)
    again = start("resume")
    assert again.returncode == 0, again.stderr
    assert record.stat().st_mtime_ns == before
    assert json.loads((out / "cross-encoder" / "run.json").read_text())["outcome"]["steps"] == 4
    scores = lorank.load_ranker(out).score("orbits sun", marked.documents[:12])
    assert np.isfinite(scores).all()
