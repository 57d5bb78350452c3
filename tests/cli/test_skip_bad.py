"""``--skip-bad``: every command that reads data or runs leaves bad rows out, says so, and keeps them in a file."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from lorank.cli.app import app
from lorank.data import Collection, Split, read_run, write_beir
from lorank.errors import DataError

TEXTS = [f"{word} {other}" for word in ("moon", "list", "rank", "word") for other in ("earth", "sort", "low", "sun")]


@pytest.fixture
def spoiled(tmp_path, monkeypatch):
    """A BEIR folder with one bad row in each of its files, and a run with three."""
    monkeypatch.chdir(tmp_path)
    documents = [f"d{i}" for i in range(len(TEXTS))]
    splits = {
        name: Split(
            name,
            {f"{name}{i}": TEXTS[i].split()[0] for i in range(16)},
            {f"{name}{i}": {f"d{i}": 1} for i in range(16)},
        )
        for name in ("train", "dev", "test")
    }
    write_beir(Collection("data", documents, TEXTS, splits), tmp_path / "data")
    for name, row in (
        ("corpus.jsonl", '{"text": "no id"}'),
        ("queries.jsonl", "[1]"),
        ("qrels/test.tsv", "test0\td99\t1"),
    ):
        with (tmp_path / "data" / name).open("a") as file:
            file.write(row + "\n")
    good = "".join(f"test{q} Q0 d{d} 1 {d} x\n" for q in range(16) for d in range(16))
    (tmp_path / "a.run").write_text(good + "test0 Q0 d1 1 nan x\ntest0 Q0 d77 1 1 x\ntest0 d1\n")
    return tmp_path


COMMANDS = {
    "retrieve": ("retrieve --data data --out out.run", "out.run.skipped.jsonl", 3),
    "evaluate": ("evaluate --data data --run a.run", "skipped.jsonl", 5),
    "evaluate a ranker": ("evaluate --data data --run a.run --ranker bm25", "skipped.jsonl", 6),
    "evaluate qrels": ("evaluate --qrels data/qrels/test.tsv --run a.run", "skipped.jsonl", 2),
    "rerank": ("rerank --data data --run a.run --ranker bm25 --out out.run", "out.run.skipped.jsonl", 6),
    "depth": ("depth --data data --run a.run --scores a.run --depths 5,10", "skipped.jsonl", 8),
    "aggregate": ("aggregate --run a.run --run a.run --out out.run", "out.run.skipped.jsonl", 4),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_bad_rows_end_a_command_in_one_report_or_are_left_out_and_kept(name, spoiled):
    command, file, count = COMMANDS[name]
    refused = CliRunner().invoke(app, command.split())
    assert isinstance(refused.exception, DataError)
    if name != "retrieve":
        assert "--skip-bad" in str(refused.exception)
    done = CliRunner().invoke(app, [*command.split(), "--skip-bad"])
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in (spoiled / file).read_text().splitlines()]
    assert len(rows) == count
    assert f"left out {count} bad rows" in done.stderr
    assert file in done.stderr
    assert all(row["file"] and row["line"] and row["problem"] and "row" in row for row in rows)


def test_what_is_left_of_a_run_is_reranked(spoiled):
    CliRunner().invoke(app, [*COMMANDS["rerank"][0].split(), "--skip-bad"], catch_exceptions=False)
    assert {len(row) for row in read_run(spoiled / "out.run").values()} == {16}
    assert "d77" not in read_run(spoiled / "out.run")["test0"]


def test_nothing_bad_writes_no_file(spoiled):
    command = "aggregate --run out.run --run out.run --out twice.run --skip-bad"
    (spoiled / "out.run").write_text("q d 1\n")
    assert CliRunner().invoke(app, command.split(), catch_exceptions=False).exit_code == 0
    assert not (spoiled / "twice.run.skipped.jsonl").exists()


def test_a_ballot_is_not_thinned_out(spoiled):
    refused = CliRunner().invoke(app, ["aggregate", "--duels", "a.csv", "--skip-bad"])
    assert "--skip-bad leaves out rows of runs" in str(refused.exception)


def test_training_leaves_bad_rows_out_and_its_record_says_so(spoiled):
    """A recipe takes the key too; the rows lie beside the run folder, which is there only once the run is."""
    rows = [f"{i % 2} qid:{i // 4} 1:{i % 4} 2:{(i * 7) % 5}" for i in range(64)]
    (spoiled / "rows").mkdir()
    for split in ("train", "vali"):
        (spoiled / "rows" / f"{split}.txt").write_text("\n".join([*rows, "x qid:99 1:1", "1 qid:99 1:"]))
    command = [sys.executable, "-m", "lorank", "train", "--base", "mlp", "--data", "rows", "--out", "runs/a"]
    command += ["--set", "training.steps=2"]
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "4 bad rows" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (spoiled / "runs").exists()
    done = subprocess.run([*command, "--skip-bad"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "left out 4 bad rows" in done.stderr
    assert len((spoiled / "runs" / "a.skipped.jsonl").read_text().splitlines()) == 4
    record = json.loads((spoiled / "runs" / "a" / "run.json").read_text())
    assert record["settings"]["skip_bad"] is True
