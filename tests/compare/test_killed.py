"""An experiment that is killed twice with -9 and taken up gives what an undisturbed one gives."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lorank.compare import run_experiment
from lorank.compare.ledger import LEDGER

pytestmark = pytest.mark.slow

FILE = """
data = {data}
base = {base}
kind = "bi-encoder"
keep = "tuned"
folds = 3
seed = [0, 1]
baseline = "lora, softmax"
adapter = {{name = ["lora", "dora"], rank = 2}}
loss = {{name = ["softmax", "lambda"]}}
lists = {{negatives = 2, spare = 1.0, depth = 8}}
training = {{steps = 2, batch_size = 4, evaluations = 1, precision = "fp32", lr = 1e-2}}

[[row]]
name = "BM25"
ranker = "bm25"
"""
TRIALS = 2 * 2 * 2 * 3 + 1


def whole_lines(out: Path) -> list[dict]:
    path = out / LEDGER
    text = path.read_bytes() if path.exists() else b""
    return [json.loads(line) for line in text[: text.rfind(b"\n") + 1].splitlines()][1:]


def start(file: Path, out: Path, *options: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "lorank", "compare", str(file), "--out", str(out), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def kill_once(process: subprocess.Popen, out: Path, lines: int) -> None:
    deadline = time.monotonic() + 300
    while len(whole_lines(out)) < lines:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def values(result) -> dict:
    return {
        (row.name, trial.seed, query): value
        for row in result.rows
        for trial in row.trials
        for query, value in trial.test["nDCG@10"].items()
    }


def test_killed_twice_and_resumed(judged, bert, tmp_path):
    file, out = tmp_path / "e.toml", tmp_path / "killed"
    file.write_text(FILE.format(data=json.dumps(str(judged)), base=json.dumps(bert)))
    kill_once(start(file, out), out, 2)
    with (out / LEDGER).open("ab") as ledger:
        ledger.write(b'{"row": "lora, softm')  # a line that was being written
    kill_once(start(file, out, "--workers", "2"), out, 6)
    process = start(file, out, "--workers", "2", "--json")
    said, noted = process.communicate(timeout=500)
    assert process.returncode == 0, noted
    assert {record["row"] for record in json.loads(said)} == {
        *(f"{adapter}, {loss}" for adapter in ("lora", "dora") for loss in ("softmax", "lambda")),
        "BM25",
    }
    assert (out / "index.html").is_file()
    keys = [json.dumps(line["settings"], sort_keys=True) for line in whole_lines(out)]
    assert len(keys) == len(set(keys)) == TRIALS
    again = run_experiment(file, out)
    whole = run_experiment(file, tmp_path / "undisturbed")
    assert values(again.result) == pytest.approx(values(whole.result), abs=1e-6)


def test_a_worker_that_is_killed_is_started_again(judged, bert, tmp_path):
    file, out = tmp_path / "e.toml", tmp_path / "out"
    file.write_text(FILE.format(data=json.dumps(str(judged)), base=json.dumps(bert)))
    process = start(file, out, "--workers", "2")
    deadline = time.monotonic() + 300
    while not whole_lines(out):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    workers = [pid for pid in children(process.pid) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    _, noted = process.communicate(timeout=500)
    assert process.returncode == 0, noted
    assert len(whole_lines(out)) == TRIALS
    assert not any("failed" in line for line in whole_lines(out))


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
