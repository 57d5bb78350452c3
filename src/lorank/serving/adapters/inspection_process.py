"""The inspector's process: it imports once what reading an adapter needs, and forks a child with limits per folder.

    python -P -m lorank.serving.adapters.inspection_process FACTS

FACTS is a file of what the server knows of its base (`lorank.serving.adapters.facts.Facts`, pickled by the server
itself). The process reads one JSON object per line, ``{"id", "name", "folder"}``, and writes one per line, ``{"id",
"answered", "error" or null, "remarks"}``; first of all one with the id -1, which says that it is ready. ``answered`` is
false where the child did not come to an answer: it hung, used up its time, or died. That says nothing of the folder on
a machine under load.

The process has one thread, so that its children can fork from it at any time: it keeps out what would start others.
"""

import contextlib
import json
import os
import pickle
import selectors
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lorank.progress import unshare_progress_lock

KEPT_OUT = ("jax", "jaxlib", "flax", "tensorflow")
"""Packages that others import where they are installed, which start threads, and of which reading needs nothing."""
CPU_S, CPU_S_PER_GIB = 5, 10
"""Seconds of the processor that a folder gets, and further ones for each GiB of it."""
MEMORY = 1 << 30
"""Bytes that reading a folder may take, beside six times its own size."""
ANSWER = 1 << 14
"""Bytes of an answer."""
NICE = 5
REAP_S = 0.2
"""Seconds between two looks for children that have ended or are late."""

Work = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Returns ``{"error", "remarks"}`` for a request, in a child."""


def folder_size(folder: Path) -> int:
    """Return the bytes of a folder's files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def cpu_seconds(size: int) -> int:
    """Return the seconds of the processor that a folder of ``size`` bytes gets.

    >>> cpu_seconds(0), cpu_seconds(1 << 30)
    (5, 15)
    """
    return int(CPU_S + CPU_S_PER_GIB * size / 2**30)


def wall_seconds(size: int, least: float) -> float:
    """Return the seconds of the clock that a folder of ``size`` bytes gets, where an empty one gets ``least``.

    >>> wall_seconds(0, 30.0), wall_seconds(1 << 30, 30.0)
    (30.0, 90.0)
    """
    return least * (1 + CPU_S_PER_GIB / CPU_S * size / 2**30)


def limit_process(size: int, wall_s: float) -> None:
    """Bound this process's time and memory for a folder of ``size`` bytes; it ends after ``wall_s`` in any case."""
    import resource  # where there are no forks there is none either

    seconds = cpu_seconds(size)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY + 6 * size,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    os.nice(NICE)
    signal.setitimer(signal.ITIMER_REAL, wall_s + 1)  # also where nobody is left to end it


@dataclass
class Child:
    """A folder under inspection: the process that reads it, the pipe from it, and when it must have answered."""

    process: int
    row: Mapping[str, Any]
    wall_s: float
    deadline: float
    said: bytes = b""


class Inspection:
    """The loop: requests in, children out, answers when they end.

    Args:
        work: What a child does with a request.
        wall_s: Seconds of the clock that a small folder gets.
    """

    def __init__(self, work: Work, wall_s: float) -> None:
        self.work, self.wall_s, self.rest = work, wall_s, b""
        self.children: dict[int, Child] = {}
        self.ended: set[int] = set()
        """Processes that have answered or were killed, and are not waited for yet."""
        self.watched = selectors.DefaultSelector()
        self.watched.register(0, selectors.EVENT_READ)

    def run(self) -> None:
        """Work until the server closes its end; no child outlives it."""
        try:
            while self.turn():
                pass
        finally:
            for child in self.children.values():
                os.kill(child.process, signal.SIGKILL)

    def turn(self) -> bool:
        """Handle what has come, and who is late; False where the server is gone."""
        for key, _ in self.watched.select(timeout=REAP_S if self.children or self.ended else None):
            if key.fd != 0:
                self.receive(key.fd)
            elif not self.take():
                return False
        now = time.monotonic()
        for pipe in [pipe for pipe, child in self.children.items() if now > child.deadline]:
            os.kill(self.children[pipe].process, signal.SIGKILL)
            self.end(pipe, f"reading it took longer than {self.children[pipe].wall_s:.3g} s")
        self.reap()
        return True

    def take(self) -> bool:
        """Start what was asked for; False where the server is gone."""
        data = os.read(0, 1 << 16)
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            self.start(json.loads(line))
        return bool(data)

    def start(self, row: Mapping[str, Any]) -> None:
        """Fork a child that inspects one folder."""
        size = folder_size(Path(row["folder"]))
        wall_s = wall_seconds(size, self.wall_s)
        reading, writing = os.pipe()
        process = os.fork()
        if process == 0:
            with contextlib.suppress(BaseException):
                unshare_progress_lock()
                nothing = os.open(os.devnull, os.O_RDWR)
                os.dup2(nothing, 0)
                os.dup2(nothing, 1)
                limit_process(size, wall_s)
                os.write(writing, json.dumps(self.work(row)).encode()[:ANSWER])
            os._exit(0)
        os.close(writing)
        self.children[reading] = Child(process, row, wall_s, time.monotonic() + wall_s)
        self.watched.register(reading, selectors.EVENT_READ)

    def receive(self, pipe: int) -> None:
        """Take in what a child says, and answer when it has ended."""
        data = os.read(pipe, ANSWER)
        self.children[pipe].said += data
        if not data:
            self.end(pipe, "reading it ended without an answer")

    def end(self, pipe: int, why: str) -> None:
        """Answer for a child; ``why`` says what happened where it has not."""
        child = self.children.pop(pipe)
        self.watched.unregister(pipe)
        os.close(pipe)
        self.ended.add(child.process)
        try:
            result = {"answered": True, **json.loads(child.said)}
        except ValueError:
            result = {"answered": False, "error": why, "remarks": []}
        say({"id": child.row["id"], **result})

    def reap(self) -> None:
        """Take note of the processes that have ended; one that cannot be killed holds nobody up."""
        self.ended = {process for process in self.ended if not os.waitpid(process, os.WNOHANG)[0]}


def say(row: Mapping[str, Any]) -> None:
    """Write one answer."""
    data = json.dumps(row).encode() + b"\n"
    while data:
        data = data[os.write(1, data) :]


@contextlib.contextmanager
def keep_out(packages: Sequence[str]) -> Iterator[None]:
    """Within it an import of one of ``packages`` fails as if it were not installed."""
    absent = [name for name in packages if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # None stands for a package that is missing
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


def open_work(file: Path) -> tuple[Work, float]:
    """Import what reading needs, and return what a child does and the seconds that a small folder gets.

    Args:
        file: The server's facts; it is removed.
    """
    with keep_out(KEPT_OUT):
        import torch

        from lorank.serving.adapters.inspection import answer

        torch.set_num_threads(1)
        facts = pickle.loads(file.read_bytes())
    file.unlink()
    return partial(answer, facts=facts), facts.wall_s


def main(file: str) -> None:
    """Read the facts from ``file``, say that this process is ready, and work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    work, wall_s = open_work(Path(file))
    say({"id": -1})
    Inspection(work, wall_s).run()


if __name__ == "__main__":
    main(sys.argv[1])
