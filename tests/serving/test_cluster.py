"""Scoring on a Ray cluster: shards cover the run; workers may die and the driver be stopped, the bits stay the same."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from lorank.data import read_run, write_run
from lorank.errors import UsageError
from lorank.ranking.scorers import CrossEncoder
from lorank.training import fit
from lorank.training.lists.retrieval import bm25_index
from lorank.training.settings import ListSettings, OptimizerSettings, Recipe
from lorank.tuned.ray_rerank import one_process, read_journal, rerank_on_ray, shards_of, trim

QUICK = Recipe(
    training=OptimizerSettings(steps=2, batch_size=4, lr=1e-3, evaluations=1, precision="fp32"),
    lists=ListSettings(negatives=2),
)


@pytest.fixture
def tuned(texts, tiny_folders, tmp_path):
    fit(CrossEncoder(str(tiny_folders["bert"])), texts, "lora", out=tmp_path / "run", recipe=QUICK)
    return tmp_path / "run"


@pytest.fixture
def candidates(texts):
    return bm25_index(texts).search(texts.test.queries, 10)


def test_shards_cover_every_query_once_with_the_texts_of_its_candidates(texts, candidates):
    shards = shards_of(texts, texts.test.queries, candidates, size=2)
    assert [q for shard in shards for q in shard.queries] == list(candidates)
    for shard in shards:
        assert {d for row in shard.candidates.values() for d in row} == set(shard.documents)
        assert all(shard.documents[d] == texts.documents[texts.position[d]] for d in shard.documents)
    assert len({shard.digest for shard in shards}) == len(shards)


def test_a_journal_cut_short_by_a_crash_keeps_its_whole_lines(tmp_path):
    journal = tmp_path / "journal"
    journal.write_text(json.dumps({"ranker": "r", "shard": "s", "run": {"q": {"d": 0.1}}}) + '\n{"ranker": "r", "sha')
    trim(journal)
    assert list(read_journal(journal, "r")) == [("s", {"q": {"d": 0.1}})]  # exact: read, not computed
    assert list(read_journal(journal, "another")) == []


def test_feature_rows_are_refused(rows):
    with pytest.raises(UsageError, match="feature rows"):
        shards_of(rows, {}, {})


@pytest.mark.slow
def test_two_workers_give_the_bits_of_one_process_though_one_is_killed(tuned, texts, candidates, tmp_path):
    pytest.importorskip("ray")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    shards = shards_of(texts, texts.test.queries, candidates, size=1)
    expected = one_process(tuned, shards)
    torch.set_num_threads(threads)
    killed = []

    def kill_one(done, total):
        if done == 1 and not killed:
            found = subprocess.run(["pgrep", "-f", "ray::_Scorer"], capture_output=True, text=True).stdout.split()
            killed.extend(map(int, found[:1]))
            for worker in killed:
                os.kill(worker, signal.SIGKILL)

    found = rerank_on_ray(tuned, shards, tmp_path / "journal", workers=2, on_progress=kill_one)
    assert killed
    assert found == expected
    again = rerank_on_ray(tuned, shards, tmp_path / "journal", workers=2)
    assert again == expected


@pytest.mark.slow
def test_the_command_stopped_by_force_goes_on_from_its_journal(tuned, texts, candidates, tmp_path):
    pytest.importorskip("ray")
    from lorank.data import write_beir

    write_beir(texts, tmp_path / "data")
    write_run(candidates, tmp_path / "bm25.run", "bm25")
    command = [
        sys.executable,
        "-c",
        "from lorank.cli import main; main()",
        "rerank",
        "--ranker",
        str(tuned),
        "--data",
        str(tmp_path / "data"),
        "--run",
        str(tmp_path / "bm25.run"),
        "--engine",
        "ray",
    ]
    journal = tmp_path / "a.run.shards.jsonl"
    first = subprocess.Popen([*command, "--out", str(tmp_path / "a.run")], start_new_session=True)
    until = time.monotonic() + 180
    while not (journal.exists() and journal.read_text()) and first.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    for name in ("a", "b"):
        subprocess.run([*command, "--out", str(tmp_path / f"{name}.run")], check=True)
    assert read_run(tmp_path / "a.run") == read_run(tmp_path / "b.run")
    assert len(read_run(tmp_path / "a.run")) == len(candidates)
