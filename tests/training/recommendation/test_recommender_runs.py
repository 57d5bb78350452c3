"""Runs of recommenders: a killed or stopped one goes on bit for bit, and no folder is taken unasked."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from lorank.data.interactions import Interactions
from lorank.errors import UsageError
from lorank.ranking.recommendation import SequenceSettings
from lorank.training.loop.checkpoints import read_checkpoint
from lorank.training.recommendation import train_recommender
from planted_users import interested_users, write_log

SMALL = SequenceSettings(dim=8, length=6, rounds=3, top=5, steps=12, adapter_steps=6, batch_size=16, evaluations=3)


@pytest.fixture
def log():
    rows, items = interested_users(0, users=60, groups=5)
    return Interactions([f"u{i}" for i in range(len(rows))], [f"i{i}" for i in range(1, items + 1)], rows)


def command(folder, out, *more):
    options = ["--data", str(folder / "log.csv"), "--method", "ada-retrieval", "--out", str(out), *more]
    settings = ("steps=90", "adapter_steps=90", "dim=8", "top=5", "batch_size=16", "evaluations=3")
    given = [part for text in (*settings, "checkpoint_seconds=0") for part in ("--option", text)]
    return [sys.executable, "-m", "lorank", "recommend", "train", *options, *given]


def weights_and_losses(out):
    journals = [out / "metrics.jsonl", out / "adapters" / "metrics.jsonl"]
    lines = [json.loads(line) for path in journals for line in path.read_text().splitlines()]
    return load_file(out / "model.safetensors"), [(line["step"], line.get("loss"), line.get("dev")) for line in lines]


def stop(process, checkpoints, number):
    """Send a signal once there is a checkpoint that is neither the first ones nor the last."""
    deadline = time.monotonic() + 300
    while not list(checkpoints.glob("step-000000[2-7]*")) and time.monotonic() < deadline:
        assert process.poll() is None, "the run ended before it was stopped"
        time.sleep(0.02)
    os.kill(process.pid, number)
    return process.wait()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    write_log(folder / "log.csv", interested_users(0, users=60, groups=5)[0])
    subprocess.run(command(folder, folder / "whole"), check=True, capture_output=True)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "number", "code"),
    [(".", signal.SIGKILL, -signal.SIGKILL), ("adapters", signal.SIGKILL, -signal.SIGKILL), (".", signal.SIGINT, 130)],
)
def test_a_run_that_was_stopped_goes_on_bit_for_bit(whole, tmp_path, stage, number, code):
    out = tmp_path / "stopped"
    process = subprocess.Popen(command(whole, out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert stop(process, out / stage / "checkpoints", number) == code
    said = process.stderr.read()
    assert (number == signal.SIGINT) == ("go on with: lorank recommend train" in said)
    assert not (out / "model.safetensors").exists()
    subprocess.run(command(whole, out, "--resume"), check=True, capture_output=True)
    (ours, first), (theirs, second) = weights_and_losses(out), weights_and_losses(whole / "whole")
    assert first == second  # exact: the same bits
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


def test_the_weights_that_held_out_items_judge_best_are_kept_also_by_a_resumed_run(log, tmp_path):
    train_recommender(log, "sasrec", SMALL, out=tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    looks = [(line["dev"]["nDCG"], -line["step"]) for line in lines if "dev" in line]
    assert [-step for _, step in looks] == [0, 4, 8, 12]
    best = -max(looks)[1]
    kept, _ = read_checkpoint(tmp_path / "run" / "checkpoints" / f"best-{best:08d}")
    for resume in (False, True):
        if resume:
            train_recommender(log, "sasrec", SMALL, out=tmp_path / "run", resume=True)
        found = load_file(tmp_path / "run" / "model.safetensors")
        assert all(torch.equal(value, found[name]) for name, value in kept.items())


def test_a_folder_is_neither_replaced_nor_taken_up_unasked(log, tmp_path):
    out = tmp_path / "run"
    train_recommender(log, "sasrec", SMALL, out=out)
    before = (out / "model.safetensors").read_bytes()
    with pytest.raises(UsageError, match="--overwrite"):
        train_recommender(log, "sasrec", SMALL, out=out, seed=1)
    with pytest.raises(UsageError, match="begun with other seed"):
        train_recommender(log, "sasrec", SMALL, out=out, seed=1, resume=True)
    fewer = Interactions(log.users[1:], log.items, log.sequences[1:])
    with pytest.raises(UsageError, match="begun with other data"):
        train_recommender(fewer, "sasrec", SMALL, out=out, resume=True)
    assert (out / "model.safetensors").read_bytes() == before
    train_recommender(log, "sasrec", SMALL, out=out, seed=1, overwrite=True)
    assert (out / "model.safetensors").read_bytes() != before
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="something other"):
        train_recommender(log, "sasrec", SMALL, out=other, overwrite=True)
    assert (other / "notes.txt").read_text() == "mine"


def test_a_loss_that_takes_more_than_scores_and_labels_is_refused_before_the_folder_is_made(log, tmp_path):
    with pytest.raises(UsageError, match="items"):
        train_recommender(log, "sasrec", SMALL, out=tmp_path / "run", loss="elr")
    assert not (tmp_path / "run").exists()
