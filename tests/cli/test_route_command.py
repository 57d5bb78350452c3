"""`lorank route` on runs and on tables: learned, applied, tuned, and refused before any work."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from lorank.cli.app import app
from lorank.data import read_run, write_beir, write_run
from lorank.data.collection import Collection


def command(*words: Any, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["route", *map(str, words)])
    assert (done.exit_code == 0) == (code == 0), (done.output, done.exception)
    return done.stdout if not code else str(done.exception) + done.output


@pytest.fixture
def place(texts: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A BEIR folder, a run that finds what is relevant, and one that does not."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_beir(texts, tmp_path / "beir")
    good, bad = {}, {}
    for split in texts.splits.values():
        for query in split.queries:
            good[query] = {d: 1.0 + (d in split.qrels[query]) - i / 100 for i, d in enumerate(texts.document_ids[:20])}
            bad[query] = {d: i / 100 for i, d in enumerate(texts.document_ids[:20])}
    write_run(good, tmp_path / "good.run")
    write_run(bad, tmp_path / "bad.run")
    return tmp_path


def runs(place: Path) -> list[Any]:
    return ["--data", place / "beir", "--run", f"bad={place / 'bad.run'}", "--run", f"good={place / 'good.run'}"]


@pytest.mark.parametrize("method", ["mba-rag", "expertise-trees"])
@pytest.mark.parametrize("features", ["query", "runs"])
def test_a_router_over_runs_is_trained_and_applied(method: str, features: str, place: Path) -> None:
    line = ["--method", method, "--features", features, "--price", 0.01, "--cost", "good=1", "--none"]
    said = command("train", *runs(place), *line, "--out", place / "route")
    assert "| oracle |" in said
    assert "| none |" in said
    found = command("apply", place / "route", *runs(place), "--out", place / "routed.run")
    chosen = {row["query"]: row["arm"] for row in map(json.loads, found.splitlines())}
    assert set(chosen.values()) <= {"none", "bad", "good"}
    routed, good = read_run(place / "routed.run"), read_run(place / "good.run")
    assert sum(arm == "good" for arm in chosen.values()) >= len(chosen) / 2
    for query, arm in chosen.items():
        if arm == "good":
            assert routed[query] == pytest.approx(good[query], abs=1e-4)


def answers(path: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = []
    for i in range(90):
        hard = i % 2
        query = " ".join(["why"] * 3 + ["words"] * 6) if hard else "moon"
        quality = {"small": 0.9 - 0.7 * hard + 0.01 * rng.normal(), "large": 0.9, "third": 0.5 + 0.01 * i}
        rows.append({"query": query, "quality": quality, "cost": {"small": 0.1, "large": 1.0, "third": 2.0}})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_models_are_routed_by_preference_and_a_new_one_is_added(tmp_path: Path) -> None:
    table = answers(tmp_path / "answers.jsonl")
    command("train", "--table", table, "--method", "llm-bandit", "--price", 0.2, "--out", tmp_path / "models")
    ask = [
        "apply",
        tmp_path / "models",
        "--query",
        "moon",
        "--query",
        "why why why words words words words words words",
    ]
    arms = [json.loads(row)["arm"] for row in command(*ask).splitlines()]
    assert arms == ["small", "large"]
    assert [json.loads(row)["arm"] for row in command(*ask, "--preference", 0).splitlines()] == ["small", "small"]
    rows = [json.loads(row) for row in table.read_text().splitlines()]
    for row in rows:
        row["quality"]["new"] = row["quality"]["large"] + 0.2
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command("add", tmp_path / "models", "--arm", "new", "--table", table, "--cost", 0.05)
    assert "new" in command(*ask, "--preference", 1)
    assert "has it" in command("add", tmp_path / "models", "--arm", "new", "--table", table, code=1)


def test_fusion_is_tuned_with_a_fifth_of_the_grid(place: Path) -> None:
    found = json.loads(command("tune", *runs(place), "--out", place / "fused.run", "--batch", 6))
    assert (found["tried"], found["grid"]) == (33, 165)
    assert found["setting"]["weight"] >= 0.5
    assert set(read_run(place / "fused.run")) == set(read_run(place / "good.run"))


def test_what_cannot_be_is_refused(place: Path) -> None:
    (place / "bad.jsonl").write_text('{"query": "x", "quality": {"a": "much"}}\n')
    for line, says in [
        (["train", "--out", place / "r"], "--run"),
        (["train", *runs(place)[:4], "--out", place / "r"], "two arms"),
        (["train", *runs(place), "--method", "best", "--out", place / "r"], "--method"),
        (["train", *runs(place), "--cost", "dense=1", "--out", place / "r"], "dense"),
        (["train", *runs(place), "--cost", "good=much", "--out", place / "r"], "NAME=NUMBER"),
        (["train", "--table", place / "bad.jsonl", "--out", place / "r"], "bad.jsonl:1"),
        (["train", *runs(place), "--option", "epsilon=1", "--method", "mba-rag", "--out", place / "r"], "epsilon"),
        (["apply", place, "--query", "x"], "lorank route train"),
        (["tune", *runs(place)[:4]], "two runs"),
    ]:
        assert says in command(*line, code=1)
