"""Gazal-R1: a supervised stage, then a stage by reward on its merged weights, each a recipe file."""

import json

import pytest
import torch
from typer.testing import CliRunner

from lorank.cli.app import app
from lorank.ranking.scorers import CausalRanker
from lorank.training import load_ranker
from planted_setwise import write_answering_model, write_rows

pytestmark = pytest.mark.usefixtures("own_cache")

COMMON = """
data = "{data}"
base = "{base}"
kind = "causal"
out = "{out}"
keep = "tuned"
judge_test = false
[adapter]
name = "dora"
scaling = "rslora"
rank = 4
[training]
steps = 3
batch_size = 2
lr = 1e-2
evaluations = 1
evaluation_queries = 2
precision = "fp32"
"""
BY_REWARD = """
[policy]
name = "gazal-r1"
size = 3
max_tokens = 8
samples = 4
"""


def run(*words):
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output


def write_recipe(path, more="", **values):
    path.write_text(COMMON.format(**values) + more)
    return path


def test_recipe_files_run_both_stages_and_the_second_leaves_the_weights_of_the_first(tmp_path):
    rows = write_rows(tmp_path / "rows.jsonl", 24, 0)
    base = write_answering_model(tmp_path / "model", rows, steps=20)
    one, merged, two = tmp_path / "one", tmp_path / "merged", tmp_path / "two"
    run("train", write_recipe(tmp_path / "one.toml", data=rows, base=base, out=one))
    run("adapter", "merge", one, "--out", merged)
    run("train", write_recipe(tmp_path / "two.toml", BY_REWARD, data=rows, base=merged, out=two))

    lines = [json.loads(line) for line in (two / "metrics.jsonl").read_text().splitlines()]
    seen = {key for line in lines for key in line.get("dev", {})}
    parts = ("label", "format", "length", "repetition")
    assert {"reward", *parts, *(f"train/{part}" for part in parts)} <= seen

    first, before = CausalRanker(str(merged)).module.state_dict(), CausalRanker(str(base)).module.state_dict()
    assert any(not torch.equal(first[name], value) for name, value in before.items())
    tuned = load_ranker(two)
    adapted = tuned.adapter.state()
    assert any(value.abs().max() > 0 for name, value in adapted.items() if name.endswith("B"))
    tuned.unmerge()
    tuned.adapter.detach()
    after = tuned.ranker.module.state_dict()
    assert all(torch.equal(after[name], value) for name, value in first.items())  # exact: never written
