"""Experiments on a local Ray: the same numbers as in one process, and a worker that is lost is replaced."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from lorank.compare import run_experiment
from lorank.compare.ledger import LEDGER

pytest.importorskip("ray")
pytestmark = pytest.mark.slow


@pytest.fixture
def made(judged, bert):
    return {
        "data": str(judged),
        "base": bert,
        "kind": "bi-encoder",
        "keep": "tuned",
        "folds": 3,
        "adapter": {"name": ["lora", "dora"], "rank": 2},
        "lists": {"negatives": 2, "spare": 1.0, "depth": 8},
        "training": {"steps": 2, "batch_size": 4, "evaluations": 1, "precision": "fp32", "lr": 1e-2},
        "row": [{"name": "BM25", "ranker": "bm25"}],
    }


def values(found):
    return {
        (row.name, trial.seed, query): value
        for row in found.result.rows
        for trial in row.trials
        for query, value in trial.test["nDCG@10"].items()
    }


def test_two_workers_give_the_numbers_of_one_process(made, tmp_path):
    on_ray = run_experiment(made, tmp_path / "ray", workers=2, engine="ray")
    here = run_experiment(made, tmp_path / "here")
    assert on_ray.whole, on_ray.notes
    assert values(on_ray) == pytest.approx(values(here), abs=1e-6)
    assert all((tmp_path / "ray" / trial.run).is_file() for row in on_ray.result.rows for trial in row.trials)


def test_a_worker_that_is_lost_is_replaced(made, tmp_path):
    ledger, killed = tmp_path / "ray" / LEDGER, []

    def kill():
        """Kill the workers of Ray that run a trial, once the first trial has ended."""
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and not killed:
            if ledger.exists() and ledger.read_bytes().count(b"\n") > 1:
                for process in Path("/proc").glob("[0-9]*/cmdline"):
                    if process.read_bytes().startswith(b"ray::run_in_worker") and descends(int(process.parent.name)):
                        os.kill(int(process.parent.name), signal.SIGKILL)
                        killed.append(process)
            time.sleep(0.02)

    def descends(pid):
        """Return whether a process was started by this one, directly or not."""
        while pid > 1:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            if pid == os.getpid():
                return True
        return False

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    found = run_experiment(made, tmp_path / "ray", workers=1, engine="ray")
    thread.join(timeout=1)
    assert killed
    assert found.whole, found.notes
    assert len(values(found)) == 3 * 24
