"""The inspector's process: folders that anyone may have written are read here first, each in a child with limits.

Started by `lorank.serving.adapters.inspector` with a file of what the server knows of its base (`Facts`, pickled by the
server itself). It reads one JSON object a line, ``{"id", "name", "folder"}``, and writes one a line, ``{"id", "error"
or null, "remarks"}``. For each it forks a child whose processor time, memory and wall time are bounded, so that a
folder can harm nothing but its own check.
"""

import contextlib
import json
import os
import pickle
import resource
import selectors
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from lorank.errors import DataError, LorankError
from lorank.lowrank.folder import open_forms
from lorank.ranking.scorers.ranker import TrainableRanker
from lorank.serving.adapters.inspector import Facts
from lorank.serving.adapters.package import Package, remarks_on
from lorank.serving.adapters.store import read_named

CPU_S, CPU_S_A_GIB, WALL_S = 5, 10, 30
"""Seconds of the processor that a folder gets, further ones for each GiB of it, and of the clock for the first."""
MEMORY = 1 << 30
"""Bytes that reading a folder may take, beside six times its own size."""
ANSWER = 1 << 14
NICE = 5


def inspect(name: str, folder: Path, facts: Facts) -> list[str]:
    """Return remarks on an adapter that can be served; raise LorankError where it cannot."""
    package = read_named(name, folder, cast(TrainableRanker, facts))  # facts hold all of a ranker that is read
    size = bytes_in_memory(package, facts.module)
    if size > facts.most_bytes:
        raise DataError(
            name,
            None,
            f"it takes {size / 2**20:.1f} MiB of memory, and all adapters together have {facts.most_bytes / 2**20:.1f}",
            "raise the memory budget (--memory-mb), or train it with a smaller rank",
        )
    return remarks_on(package)


def bytes_in_memory(package: Package, skeleton: nn.Module) -> int:
    """Return the bytes that an adapter takes once it is open; forms are built without a number being computed."""
    contents = package.contents
    size = package.beside + sum(t.nbytes for tensors in contents.trained.values() for t in tensors.values())
    if contents.settings.form == "lora":
        return size + sum(4 * t.numel() for tensors in contents.updates.values() for t in tensors.values())
    from torch._subclasses.fake_tensor import FakeTensorMode

    mode = FakeTensorMode(allow_non_fake_inputs=True)
    for module in skeleton.modules():
        for tensors in cast(tuple[dict[str, Any], ...], (module._parameters, module._buffers)):
            for key, tensor in tensors.items():
                if tensor is not None and tensor.is_meta:
                    fake = mode.fake_tensor_converter.from_meta_and_device(mode, tensor.data, torch.device("cpu"))
                    parameter = isinstance(tensor, nn.Parameter)
                    tensors[key] = nn.Parameter(fake, requires_grad=False) if parameter else fake
    with mode:
        forms = open_forms(replace(contents, sketches={}), skeleton, package.folder)  # without comparing any number
    parts = {id(t): t for form in forms.values() for t in (*form.parameters(), *form.buffers())}
    return size + sum(t.numel() * t.element_size() for t in parts.values())


def answer(row: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    """Return the answer to one request; whatever reading raises is the folder's fault."""
    try:
        remarks = inspect(row["name"], Path(row["folder"]), facts)
    except LorankError as error:
        return {"id": row["id"], "error": str(error)[:2000], "remarks": []}
    except MemoryError:
        return {"id": row["id"], "error": "reading it takes more memory than an adapter gets", "remarks": []}
    except Exception as error:  # noqa: BLE001 - the files may be anything, and so may what reading them raises
        return {"id": row["id"], "error": f"{type(error).__name__}: {error}"[:2000], "remarks": []}
    return {"id": row["id"], "error": None, "remarks": remarks}


def limit(folder: Path) -> float:
    """Bound this process's time and memory by the folder's size; return how long the clock may run."""
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    seconds = int(CPU_S + CPU_S_A_GIB * size / 2**30)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY + 6 * size,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    os.nice(NICE)
    return WALL_S / CPU_S * seconds


@dataclass
class Child:
    """A folder under inspection."""

    process: int
    row: Mapping[str, Any]
    deadline: float
    said: bytes = b""


class Inspection:
    """The loop: requests in, children out, answers when they end."""

    def __init__(self, facts: Facts) -> None:
        self.facts, self.rest = facts, b""
        self.children: dict[Any, Any] = {}
        self.watched = selectors.DefaultSelector()
        self.watched.register(0, selectors.EVENT_READ)

    def run(self) -> None:
        """Work until the server closes its end."""
        while True:
            for key, _ in self.watched.select(timeout=0.2 if self.children else None):
                if key.fd == 0:
                    if not self.take():
                        return
                else:
                    self.receive(key.fd)
            for pipe, child in list(self.children.items()):
                if time.monotonic() > child.deadline:
                    os.kill(child.process, signal.SIGKILL)
                    self.end(pipe)

    def take(self) -> bool:
        """Start what was asked for; False where the server is gone."""
        data = os.read(0, 1 << 16)
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            self.start(json.loads(line))
        return bool(data)

    def start(self, row: Mapping[str, Any]) -> None:
        """Fork a child that inspects one folder."""
        reading, writing = os.pipe()
        process = os.fork()
        if process == 0:
            with contextlib.suppress(BaseException):
                os.close(reading)
                limit(Path(row["folder"]))
                os.write(writing, json.dumps(answer(row, self.facts)).encode()[:ANSWER])
            os._exit(0)
        os.close(writing)
        size = sum(path.stat().st_size for path in Path(row["folder"]).rglob("*") if path.is_file())
        seconds = WALL_S * (1 + CPU_S_A_GIB / CPU_S * size / 2**30)
        self.children[reading] = Child(process, row, time.monotonic() + seconds)
        self.watched.register(reading, selectors.EVENT_READ)

    def receive(self, pipe: int) -> None:
        """Take in what a child says, and answer when it has ended."""
        data = os.read(pipe, ANSWER)
        self.children[pipe].said += data
        if not data:
            self.end(pipe)

    def end(self, pipe: int) -> None:
        """Answer for a child that has ended."""
        child = self.children.pop(pipe)
        self.watched.unregister(pipe)
        os.close(pipe)
        status = os.waitstatus_to_exitcode(os.waitpid(child.process, 0)[1])
        try:
            result = json.loads(child.said)
        except ValueError:
            slow = status in (-signal.SIGXCPU, -signal.SIGKILL)
            why = "reading it takes longer than an adapter gets" if slow else f"reading it ends with status {status}"
            result = {"id": child.row["id"], "error": why, "remarks": []}
        say(result)


def say(result: Mapping[str, Any]) -> None:
    """Write one answer."""
    data = json.dumps(result).encode() + b"\n"
    while data:
        data = data[os.write(1, data) :]


def main(file: str) -> None:
    """Read the facts from ``file``, say that it is ready, and work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    facts = pickle.loads(Path(file).read_bytes())
    Path(file).unlink()
    say({"id": -1, "error": None, "remarks": []})
    Inspection(facts).run()
