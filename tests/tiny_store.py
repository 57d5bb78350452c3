"""A store of tiny adapters on a tiny base, and `lorank serve` on it as a process of its own, for tests."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from lorank import lowrank
from lorank.ranking.scorers import CrossEncoder

TENANTS = ("acme", "globex", "initech")


def tiny_adapter(base: Path, seed: int) -> tuple[CrossEncoder, lowrank.Adapter]:
    """Return a tiny cross-encoder with a random adapter and head on it."""
    ranker = CrossEncoder(base, max_length=32)
    trained = sorted({name.rpartition(".")[0] for name, _ in ranker.head_parameters()})
    adapter = lowrank.attach(ranker.module, "lora", rank=4, targets="all-linear", seed=seed, trained=trained)
    generator = torch.Generator().manual_seed(seed)
    for _, parameter in adapter.named_parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    return ranker, adapter


def make_store(base: Path, folder: Path) -> dict[str, CrossEncoder]:
    """Write an adapter for each of ``TENANTS`` and return the rankers that they were saved from."""
    rankers = {}
    for seed, name in enumerate(TENANTS, start=1):
        rankers[name], adapter = tiny_adapter(base, seed)
        adapter.save(folder / name, base_name=str(base))
    return rankers


@dataclass
class Process:
    """A running `lorank serve`."""

    process: subprocess.Popen
    address: str
    log: Path
    lines: list[str] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])


@contextmanager
def serving(
    base: Path,
    adapters: Path,
    log: Path,
    options: Sequence[str] = (),
    port: int = 0,
    *,
    kind: str = "cross-encoder",
    max_length: int = 32,
) -> Iterator[Process]:
    """Start the command, wait until it says its address, yield it, and end it."""
    command = [
        str(Path(sys.executable).with_name("lorank")),
        "serve",
        "--base",
        str(base),
        "--kind",
        kind,
        "--dtype",
        "float32",
        "--max-length",
        str(max_length),
        "--adapters",
        str(adapters),
        "--port",
        str(port),
        *options,
    ]
    with log.open("ab") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
    try:
        said = process.stdout.readline().strip()
        assert said.startswith("http://"), log.read_text()
        yield Process(process, said, log)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()


def wait_until(true: object, seconds: float = 120.0) -> bool:
    """Return whether ``true()`` came true in time; a test that passes waits no longer than it takes."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.02)
    return False
