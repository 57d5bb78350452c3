import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from lorank.errors import LorankError
from lorank.training.loop.checkpoints import (
    drop_old_checkpoints,
    newest_checkpoint,
    read_checkpoint,
    write_checkpoint,
)


def test_what_is_written_is_read(tmp_path):
    tensors = {"a": torch.randn(3, 2), "b": torch.tensor(7)}
    path = write_checkpoint(tmp_path, "step-00000003", tensors, {"step": 3})
    found, numbers = read_checkpoint(path)
    assert numbers == {"step": 3}
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


def test_the_newest_complete_checkpoint_counts(tmp_path):
    for step in (2, 10, 9):
        write_checkpoint(tmp_path, f"step-{step:08d}", {}, {"step": step})
    (tmp_path / ".partial-step-00000011").mkdir()
    assert newest_checkpoint(tmp_path).name == "step-00000010"
    assert newest_checkpoint(tmp_path / "nowhere") is None


def test_old_ones_and_leftovers_go(tmp_path):
    for name in ("step-00000001", "step-00000002", "best-00000001", ".partial-step-00000003"):
        (tmp_path / name).mkdir()
    drop_old_checkpoints(tmp_path, keep={"step-00000002", "best-00000001"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best-00000001", "step-00000002"]


def test_a_damaged_checkpoint_is_named(tmp_path):
    path = write_checkpoint(tmp_path, "step-00000001", {"a": torch.ones(2)}, {})
    (path / "state.safetensors").write_bytes(b"torn")
    with pytest.raises(LorankError, match="step-00000001.*delete it"):
        read_checkpoint(path)


WRITER = """
import sys, torch
from pathlib import Path
from lorank.training.loop.checkpoints import drop_old_checkpoints, write_checkpoint
folder = Path(sys.argv[1])
for step in range(10**6):
    name = f"step-{step:08d}"
    write_checkpoint(folder, name, {"value": torch.full((200_000,), float(step))}, {"step": step})
    drop_old_checkpoints(folder, keep={name})
"""


def test_a_writer_killed_at_any_moment_leaves_a_whole_checkpoint(tmp_path):
    for round in range(3):
        folder = tmp_path / str(round)
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)])
        while newest_checkpoint(folder) is None:
            time.sleep(0.01)
        time.sleep(0.05 + 0.037 * round)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        tensors, numbers = read_checkpoint(newest_checkpoint(folder))
        assert (tensors["value"] == numbers["step"]).all()
