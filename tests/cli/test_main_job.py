"""The commands as people type them, in real processes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from lorank.data import read_run, write_beir, write_letor

LORANK = [sys.executable, "-c", "from lorank.cli import main; main()"]


@pytest.fixture
def environment(tmp_path):
    return {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def lorank(environment, tmp_path):
    def run(*arguments, check=True, given=None):
        done = subprocess.run(
            [*LORANK, *map(str, arguments)], capture_output=True, text=True, env=environment, cwd=tmp_path, input=given
        )
        if check:
            assert done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture
def folder(texts, tmp_path):
    write_beir(texts, tmp_path / "beir")
    return tmp_path / "beir"


@pytest.fixture
def bert(tiny_folders):
    return tiny_folders["bert"]


@pytest.mark.slow
def test_train_retrieve_rerank_evaluate_rank_inspect_and_export(lorank, folder, bert, tmp_path):
    trained = lorank(
        "train",
        "--data",
        folder,
        "--base",
        bert,
        "--kind",
        "cross-encoder",
        "--adapter",
        "lora",
        "--rank",
        2,
        "--loss",
        "softmax",
        "--steps",
        4,
        "--batch-size",
        4,
        "--negatives",
        3,
        "--out",
        "runs/first",
    )
    assert trained.stdout.strip() == str(Path("runs/first/model"))
    assert "train" in trained.stderr
    assert re.search(r"about .*: 4 steps of .* s, dev evaluation \d+%, test \d+%", trained.stderr)
    assert "dev nDCG@10 over the top " in trained.stderr
    lorank("retrieve", "--data", folder, "--out", "bm25.run")
    lorank("rerank", "--ranker", "runs/first", "--data", folder, "--run", "bm25.run", "--out", "tuned.run.gz")
    before, after = read_run(tmp_path / "bm25.run"), read_run(tmp_path / "tuned.run.gz")
    assert {q: set(row) for q, row in before.items()} == {q: set(row) for q, row in after.items()}
    table = lorank("evaluate", "--data", folder, "--run", "bm25.run", "--run", "tuned.run.gz").stdout
    assert "bm25" in table
    assert "tuned" in table
    judged = json.loads(
        lorank(
            "evaluate",
            "--data",
            folder,
            "--run",
            "bm25.run",
            "--run",
            "tuned.run.gz",
            "--measures",
            "nDCG@10 AP",
            "--json",
            "--out",
            "runs/first",
        ).stdout
    )
    assert judged["measures"] == ["nDCG@10", "AP"]
    assert json.loads((tmp_path / "runs/first/results.json").read_text()) == judged
    lines = lorank(
        "rank",
        "--ranker",
        "runs/first",
        "--query",
        "moon earth",
        "--documents",
        "-",
        "--top",
        2,
        given='"the moon and the earth"\n{"title": "list", "text": "words"}\n"sun"\n',
    ).stdout.splitlines()
    ranked = [json.loads(line) for line in lines]
    assert len(ranked) == 2
    assert ranked[0]["score"] >= ranked[1]["score"]
    assert "effective" in lorank("inspect", "runs/first").stdout
    exported = lorank("adapter", "merge", "runs/first", "--out", "merged")
    assert "largest score change" in exported.stderr
    assert (tmp_path / "merged" / "model.safetensors").exists()
    page = lorank("report", "runs/first").stdout.strip()
    assert "<html" in (tmp_path / page).read_text()


@pytest.mark.slow
def test_cross_validation_where_there_is_no_training_split(lorank, folder, bert, tmp_path):
    for name in ("train", "dev"):
        (folder / "qrels" / f"{name}.tsv").unlink()
    refused = lorank("train", "--data", folder, "--base", bert, "--out", "runs/x", check=False)
    assert refused.returncode == 2
    assert "--folds 5" in refused.stderr
    done = lorank(
        "train",
        "--data",
        folder,
        "--base",
        bert,
        "--kind",
        "bi-encoder",
        "--folds",
        3,
        "--steps",
        2,
        "--batch-size",
        4,
        "--negatives",
        2,
        "--out",
        "runs/folds",
    )
    assert "first stage" in done.stdout
    assert done.stdout.splitlines()[-1] == str(Path("runs/folds/model"))
    assert "independent groups" in done.stderr
    assert json.loads((tmp_path / "runs/folds/results.json").read_text())["queries"] == 6
    ranked = lorank(
        "rank", "--ranker", "runs/folds", "--query", "moon", "--documents", "-", given='"the moon"\n"sun"\n'
    )
    assert len(ranked.stdout.splitlines()) == 2
    page = (tmp_path / lorank("report", "runs/folds").stdout.strip()).read_text()
    assert "does not say how it was made" not in page


def test_a_run_within_minutes(lorank, folder, bert, tmp_path):
    command = ["train", "--data", folder, "--base", bert, "--kind", "bi-encoder", "--batch-size", 4, "--negatives", 2]
    done = lorank(*command, "--minutes", 0.05, "--out", "runs/short")
    assert "(of 0.05 min)" in done.stderr
    record = json.loads((tmp_path / "runs/short/run.json").read_text())
    assert record["settings"]["training"]["minutes"] == pytest.approx(0.05)
    assert 1 <= record["outcome"]["steps"] <= record["estimate"]["steps"]
    refused = lorank(*command, "--minutes", -1, "--out", "runs/none", check=False)
    assert refused.returncode == 2
    assert "--minutes is -1; give a number above 0" in refused.stderr


@pytest.mark.slow
def test_feature_rows_train_with_the_same_command(lorank, rows, tmp_path):
    write_letor(rows, tmp_path / "Fold1")
    lorank("train", "--data", "Fold1", "--loss", "lambda", "--steps", 10, "--out", "runs/rows")
    assert (tmp_path / "runs/rows/model/lorank.json").exists()


@pytest.mark.slow
def test_trees_and_tours_train_by_the_same_command_and_need_no_first_stage(lorank, rows, tmp_path):
    pytest.importorskip("lightgbm")
    write_letor(rows, tmp_path / "Fold1")
    refused = lorank("train", "--data", "Fold1", "--base", "lightgbm", "--rank", 8, "--out", "x", check=False)
    assert refused.returncode == 2
    assert "does not use --rank" in refused.stderr
    (tmp_path / "recipe.toml").write_text('data = "Fold1"\nbase = "lightgbm"\n[options]\nleaf_rows = 3\n')
    done = lorank("train", "recipe.toml", "--option", "trees=20", "--lr", 5e-4, "--out", "runs/trees")
    assert "dev nDCG@10" in done.stderr
    card = json.loads((tmp_path / "runs/trees/model/model/lorank.json").read_text())["options"]
    assert (card["trees"], card["lr"], card["leaf_rows"]) == (20, 5e-4, 3)  # exact: an option, copied
    lorank("train", "--data", "Fold1", "--base", "tsprank", "--epochs", 4, "--option", "width=8", "--out", "runs/tours")
    for name in ("trees", "tours"):
        lorank("rerank", "--ranker", f"runs/{name}", "--data", "Fold1", "--out", f"{name}.run")
    assert "tours" in lorank("evaluate", "--data", "Fold1", "--run", "trees.run", "--run", "tours.run").stdout
    page = (tmp_path / lorank("report", "runs/trees").stdout.strip()).read_text()
    assert "lightgbm" in page


def test_ctrl_c_exits_with_130_and_says_how_to_go_on(environment, folder, bert, tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'data = "{folder}"\nbase = "{bert}"\nkind = "bi-encoder"\n[lists]\nnegatives = 3\n'
        "[training]\nsteps = 4000\nbatch_size = 4\ncheckpoint_seconds = 0.0\nevaluations = 4\n"
    )
    process = subprocess.Popen(
        [*LORANK, "train", recipe, "--out", tmp_path / "run"], env=environment, stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and not list((tmp_path / "run/checkpoints").glob("step-*")):
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "interrupted after step" in said
    assert "--resume" in said
    assert "Traceback" not in said
    assert list((tmp_path / "run/checkpoints").glob("step-*"))


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bits(environment, folder, bert, tmp_path):
    environment = {**environment, "OMP_NUM_THREADS": "2"}
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'data = "{folder}"\nbase = "{bert}"\nkind = "bi-encoder"\n[lists]\nnegatives = 3\n'
        "[training]\nsteps = 40\nbatch_size = 4\ncheckpoint_seconds = 0.0\nevaluations = 4\n"
    )
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    subprocess.run([*LORANK, "train", recipe, "--out", whole], env=environment, check=True, capture_output=True)
    killed = 0
    for pause in (0.0, 0.05, 0.2):
        process = subprocess.Popen(
            [*LORANK, "train", recipe, "--out", cut, "--resume"],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        seen = set((cut / "checkpoints").glob("step-*"))
        while process.poll() is None and not set((cut / "checkpoints").glob("step-*")) - seen:
            time.sleep(0.005)
        time.sleep(pause)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.wait()
    assert killed >= 1
    subprocess.run(
        [*LORANK, "train", recipe, "--out", cut, "--resume"], env=environment, check=True, capture_output=True
    )
    name = "model/adapter/adapter_model.safetensors"
    assert (whole / name).read_bytes() == (cut / name).read_bytes()
    assert load_file(whole / name).keys() == load_file(cut / name).keys()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["train", "--data", "nowhere", "--out", "x"], 2, "nowhere"),
        (["train", "--out", "x"], 2, "--data"),
        (["evaluate", "--run", "a.run"], 2, "--data or --qrels"),
        (["rank", "--ranker", "none", "--query", "q", "--documents", "-"], 1, "no document"),
        (
            ["rank", "--ranker", "none", "--query", "q", "--documents", __file__, "--format", "text"],
            2,
            "cannot open the model 'none'",
        ),
        (["inspect", "none"], 1, "adapter_config.json"),
        (["evaluate", "--qrels", "none.txt", "--run", "a.run"], 1, "none.txt"),
        (["frobnicate"], 2, "frobnicate"),
    ],
)
def test_wrong_use_is_told_in_one_line(lorank, arguments, code, says):
    done = lorank(*arguments, check=False)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_methods_as_json(lorank):
    found = {row["id"]: row for row in json.loads(lorank("methods", "--json").stdout)}
    assert {"lora", "dora", "rslora", "pissa", "bce", "softmax", "ranknet", "lambda"} <= found.keys()
    assert set(found["lora"]) == {"id", "area", "title", "import"}


def test_every_command_has_help_with_an_example(lorank):
    for command in ("train", "retrieve", "rerank", "rank", "evaluate", "report", "inspect", "demo", "methods"):
        text = lorank(command, "--help").stdout
        assert f"lorank {command}" in text


def test_importing_lorank_is_quick_and_brings_no_torch():
    script = (
        "import sys, time; t = time.perf_counter(); import lorank; took = time.perf_counter() - t; "
        "assert 'torch' not in sys.modules; assert took < 1, took"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
