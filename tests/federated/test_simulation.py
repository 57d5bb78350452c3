"""Whole federations on a tiny encoder: every method by its name, at its defaults, and the rankers that come of it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from lorank import lowrank
from lorank.cli.app import app
from lorank.data import write_beir
from lorank.data.collection import Collection
from lorank.federated import AGGREGATORS
from lorank.tuned import load_ranker

DOCUMENTS = ["the moon and the earth", "list of words", "query and document", "language models"]


@pytest.fixture
def owners(texts: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two collections of the same documents, asked by different queries."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for place, remainder in (("a", 0), ("b", 1)):
        splits = {}
        for name, split in texts.splits.items():
            kept = [query for i, query in enumerate(split.queries) if i % 2 == remainder or name != "train"]
            queries, qrels = {q: split.queries[q] for q in kept}, {q: split.qrels[q] for q in kept}
            splits[name] = type(split)(name, queries, qrels)
        write_beir(Collection(place, texts.document_ids, texts.documents, splits, texts.titles), tmp_path / place)
    return tmp_path


def federate(owners: Path, bert: Any, *words: Any, code: int = 0) -> str:
    line = ["federate", "simulate", "--data", owners / "a", "--data", owners / "b", "--base", bert]
    line += ["--kind", "bi-encoder", "--rank", 4, "--steps", 2, "--rounds", 2, "--batch-size", 4, "--negatives", 2]
    done = CliRunner().invoke(app, [*map(str, line), *map(str, words)])
    assert (done.exit_code == 0) == (code == 0), (done.output, done.exception)
    return done.stdout if not code else str(done.exception) + done.output


@pytest.fixture
def bert(tiny_folders: dict[str, Path]) -> Path:
    return tiny_folders["bert"]


@pytest.mark.parametrize("method", sorted(AGGREGATORS))
def test_every_method_runs_at_its_defaults_and_its_rankers_open(
    method: str, owners: Path, bert: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = owners / "run"
    said = federate(owners, bert, "--method", method, "--out", out)
    assert "| round | bytes up | bytes down | dev a | dev b |" in said
    assert "left out" not in caplog.text
    record = json.loads((out / "federation.json").read_text())
    assert [row["round"] for row in record["rounds"]] == [0, 1, 2]
    for name in ("a", "b"):
        tuned = load_ranker(out / "clients" / name)
        assert len(tuned.rank("moon earth", DOCUMENTS)) == 4
    common = not AGGREGATORS[method].personal
    assert (out / "model").is_dir() == common
    if common:
        scores = load_ranker(out / "model").learned.score("moon earth", DOCUMENTS)
        read = [json.loads((out / each / "lorank.json").read_text()) for each in ("model", "clients/a/model")]
        assert [str(each).count("'long': 'titled'") for each in read] == [1, 1]
        for name in () if method == "fair-equal-collaboration" else ("a", "b"):
            own = load_ranker(out / "clients" / name).learned.score("moon earth", DOCUMENTS)
            assert own == pytest.approx(scores, abs=1e-4)
        base = load_ranker(out / "model")
        base.unmerge()
        with base.adapter.disabled():
            untuned = base.ranker.score("moon earth", DOCUMENTS)
        assert abs(untuned - scores).max() > 1e-6


def test_bytes_are_those_of_the_formula(owners: Path, bert: Path) -> None:
    federate(owners, bert, "--method", "fedex-lora", "--out", owners / "run")
    rounds = json.loads((owners / "run/federation.json").read_text())["rounds"]
    sides = 2 * (4 * (32 + 32) + 2 * (32 + 48))
    pooler = 32 + 32
    up = {row["up"]["a"] for row in rounds[1:]}
    assert up in ({4 * 4 * sides}, {4 * 4 * (sides + pooler)})
    assert {row["down"]["a"] for row in rounds[1:]} == {2 * up.pop()}


def test_a_killed_federation_ends_in_the_same_bits(owners: Path, bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lorank.federated import simulation

    for method in ("fedex-lora", "fedsa-lora", "fair-equal-collaboration"):
        whole, cut = owners / f"whole-{method}", owners / f"cut-{method}"
        federate(owners, bert, "--method", method, "--rounds", 3, "--out", whole)
        federate(owners, bert, "--method", method, "--rounds", 1, "--out", cut)
        refused = federate(owners, bert, "--method", method, "--rounds", 3, "--out", cut, code=2)
        assert "--resume" in refused
        with monkeypatch.context() as patched:  # as after a kill in the middle of a round: clients have trained
            patched.setattr(simulation.Server, "close_round", lambda self, uploads: (_ for _ in ()).throw(MemoryError))
            CliRunner().invoke(app, ["federate", "simulate", *_line(owners, bert, method, cut)])
        federate(owners, bert, "--method", method, "--rounds", 3, "--out", cut, "--resume")
        for name in ("a", "b"):
            place = f"clients/{name}/state-0003.safetensors"
            one, other = load_file(whole / place), load_file(cut / place)
            assert one.keys() == other.keys()
            assert all(torch.equal(one[key], other[key]) for key in one if key != "noise")


def _line(owners: Path, bert: Path, method: str, out: Path) -> list[str]:
    line = ["--data", owners / "a", "--data", owners / "b", "--base", bert, "--kind", "bi-encoder", "--rank", 4]
    line += ["--steps", 2, "--rounds", 3, "--batch-size", 4, "--negatives", 2, "--method", method, "--out", out]
    return [*map(str, line), "--resume"]


def test_noise_states_epsilon_and_a_start_that_reads_data_is_refused(owners: Path, bert: Path) -> None:
    pytest.importorskip("opacus")
    words = ["--method", "fed-sb", "--clip", 1, "--noise", 2, "--out", owners / "run"]
    assert "take --start zero" in federate(owners, bert, *words, code=2)
    said = federate(owners, bert, *words, "--start", "zero")
    assert "| epsilon |" in said
    rounds = json.loads((owners / "run/federation.json").read_text())["rounds"]
    assert 0 < rounds[1]["epsilon"]["a"] < rounds[2]["epsilon"]["a"]


def test_legend_counts_every_client_where_the_first_has_the_fewest_layers(
    owners: Path, bert: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = owners / "run"
    federate(owners, bert, "--method", "legend-fedft", "--device", "a=0.5,1", "--out", out)
    assert "left out" not in caplog.text
    rounds = json.loads((out / "federation.json").read_text())["rounds"]
    assert rounds[0]["up"].keys() == {"b"}
    for row in rounds[1:]:
        assert row["down"] == row["up"]
        assert row["up"]["a"] < row["up"]["b"]


def test_legend_gives_a_slow_device_fewer_layers(owners: Path, bert: Path) -> None:
    out = owners / "run"
    federate(owners, bert, "--method", "legend-fedft", "--device", "b=0.5,1", "--out", out)
    layers = {}
    for name in ("a", "b"):
        state = load_file(out / "clients" / name / "state-0002.safetensors")
        own = [key.partition("/")[2] for key in state if key.endswith(".A") and len(state[key])]
        layers[name] = {key.rpartition(".")[0] for key in own}
    assert layers["b"] < layers["a"]
    assert not any(".layer.0." in path for path in layers["b"])
    rounds = json.loads((out / "federation.json").read_text())["rounds"]
    assert rounds[1]["up"]["b"] < rounds[1]["up"]["a"]
    ranks = {path: layer.rank for path, layer in lowrank.adapter_files.read(out / "model/adapter").plan.items()}
    first, last = (ranks[next(path for path in ranks if f".{i}." in path)] for i in (0, 1))
    assert first < last


def test_a_cross_encoder_keeps_its_head_where_the_method_says_so(owners: Path, bert: Path) -> None:
    for method, shared in (("mean", True), ("fedsa-lora", False)):
        out = owners / method
        federate(owners, bert, "--kind", "cross-encoder", "--method", method, "--out", out)
        a, b = (load_file(out / "clients" / name / "state-0002.safetensors") for name in ("a", "b"))
        heads = [key for key in a if "classifier" in key and key.startswith("adapter/")]
        assert heads
        assert all(torch.equal(a[key], b[key]) == shared for key in heads if "weight" in key)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--method", "fedex"], "did you mean"),
        (["--noise", "1"], "add --clip"),
        (["--method", "frl", "--clip", "1"], "neither clipped nor noised"),
        (["--method", "mean", "--device", "a=1"], "only --method legend-fedft"),
        (["--method", "legend-fedft", "--device", "c=1"], "no client is called so"),
        (["--method", "fed-sb", "--adapter", "lora"], "--adapter lora-sb"),
        (["--bound", "mean"], "no number"),
        (["--adapter", "full"], "low-rank adapter"),
        (["--budget", "x"], "No such option"),
    ],
)
def test_wrong_use_is_told(words: list[str], says: str, owners: Path, bert: Path) -> None:
    assert says in federate(owners, bert, *words, "--out", owners / "x", code=2)


def test_one_client_is_no_federation(owners: Path) -> None:
    done = CliRunner().invoke(app, ["federate", "simulate", "--data", str(owners / "a"), "--out", "x"])
    assert "two clients or more" in str(done.exception)


def test_rankers_that_were_tuned_apart_are_merged_to_the_mean_of_their_updates(owners: Path, bert: Path) -> None:
    line = ["--base", bert, "--kind", "bi-encoder", "--adapter", "lora", "--rank", 2, "--steps", 3, "--batch-size", 4]
    line += ["--set", "keep=tuned", "--first-stage", "none", "--no-test", "--negatives", 2]
    for name in ("a", "b"):
        words = ["train", "--data", owners / name, *line, "--out", owners / f"run-{name}"]
        assert CliRunner().invoke(app, [*map(str, words)]).exit_code == 0
    words = ["federate", "merge", owners / "run-a", owners / "run-b", "--weight", 1, "--weight", 3]
    done = CliRunner().invoke(app, [*map(str, words), "--out", str(owners / "both")])
    assert done.exit_code == 0, done.exception
    a, b, both = (load_ranker(owners / name) for name in ("run-a", "run-b", "both"))
    for path, layer in both.adapter.layers.items():
        wanted = 0.25 * a.adapter.layers[path].delta() + 0.75 * b.adapter.layers[path].delta()
        torch.testing.assert_close(layer.delta(), wanted, atol=1e-6, rtol=1e-4)
    refused = CliRunner().invoke(app, ["federate", "merge", str(owners / "run-a"), "--out", str(owners / "x")])
    assert "two folders or more" in str(refused.exception)


def test_the_adapters_of_a_federation_are_served(owners: Path, bert: Path) -> None:
    from lorank.serving.requests.engine import Job
    from lorank.serving.start import open_engine

    federate(owners, bert, "--method", "fedsa-lora", "--out", owners / "run")
    engine = open_engine(str(bert), str(owners / "run" / "clients"), kind="bi-encoder", options={"long": "titled"})
    assert {"a", "b"} <= set(engine.adapters())
    job = Job("a", "moon earth", ["the moon and the earth", "list of words"])
    assert len(engine.score([job])[0].scores) == 2
    engine.close()


@pytest.mark.slow
def test_a_federation_that_is_killed_by_the_system_ends_in_the_same_bits(owners: Path, bert: Path) -> None:
    command = [sys.executable, "-c", "from lorank.cli import main; main()", "federate", "simulate"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    whole, cut = owners / "whole", owners / "cut"
    line = _line(owners, bert, "fedex-lora", cut)
    federate(owners, bert, "--method", "fedex-lora", "--rounds", 6, "--steps", 6, "--out", whole)
    killed = 0
    for pause in (0.0, 0.1, 0.3):
        seen = _rounds_of(cut)
        process = subprocess.Popen([*command, *line, "--rounds", "6", "--steps", "6"], env=environment)
        while process.poll() is None and _rounds_of(cut) == seen:
            time.sleep(0.01)
        time.sleep(pause)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.wait()
    assert killed >= 1
    federate(owners, bert, "--method", "fedex-lora", "--rounds", 6, "--steps", 6, "--out", cut, "--resume")
    for place in ("clients/a/state-0006.safetensors", "rounds/0006/last.safetensors"):
        one, other = load_file(whole / place), load_file(cut / place)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one if key != "noise")


def _rounds_of(folder: Path) -> int:
    record = folder / "federation.json"
    return len(json.loads(record.read_text())["rounds"]) if record.exists() else 0
