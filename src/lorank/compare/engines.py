"""Who runs the trials: this process, or worker processes of this machine that are pinned to cores."""

import multiprocessing
import os
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

from lorank.compare.run_trial import Ended, run_trial, use_threads
from lorank.compare.shared_work import SharedWork
from lorank.compare.trial import Trial
from lorank.progress import StageCallback

TRIES = 3
"""How often a trial is given out whose worker dies."""

SECONDS_TO_END = 10.0
"""How long an idle worker has to end by itself; one that is killed leaves its semaphores to be cleaned up."""


class Engine(Protocol):
    """What runs trials: up to ``capacity`` at once."""

    capacity: int

    def submit(self, trial: Trial) -> None:
        """Take a trial; there are fewer than ``capacity`` under way."""

    def wait(self) -> tuple[Trial, Ended]:
        """Return a trial that ended, and how."""
        ...

    def close(self) -> None:
        """Stop what is under way."""


class InProcessEngine:
    """Runs one trial at a time in this process.

    Args:
        shared: What trials share.
        out: The experiment's folder.
        on_progress: It receives the stages of the trial.
    """

    capacity = 1

    def __init__(self, shared: SharedWork, out: Path, on_progress: StageCallback) -> None:
        self.shared, self.out, self.on_progress = shared, out, on_progress
        self._pending: deque[Trial] = deque()

    def submit(self, trial: Trial) -> None:
        """Take the trial."""
        self._pending.append(trial)

    def wait(self) -> tuple[Trial, Ended]:
        """Run the trial."""
        trial = self._pending.popleft()
        return trial, run_trial(trial, self.shared, self.out, self.on_progress)

    def close(self) -> None:
        """Nothing is under way between two calls."""


@dataclass
class _Worker:
    """A worker process: the pipe to it, the cores it is pinned to, and the trial that it runs."""

    process: Any
    pipe: Connection
    cores: list[int]
    trial: Trial | None = None


@dataclass
class ProcessEngine:
    """Worker processes of this machine; one that dies is started again, and its trial is given out once more.

    Attributes:
        out: The experiment's folder.
        capacity: The number of workers.
    """

    out: Path
    capacity: int
    _workers: list[_Worker] = field(default_factory=list)
    _died: dict[str, int] = field(default_factory=dict)

    def submit(self, trial: Trial) -> None:
        """Give the trial to an idle worker, which is started at its first trial."""
        worker = next((each for each in self._workers if each.trial is None), None)
        if worker is None:
            worker = self._start(share_cores(len(self._workers), self.capacity))
            self._workers.append(worker)
        worker.trial = trial
        worker.pipe.send(trial)

    def wait(self) -> tuple[Trial, Ended]:
        """Return the next trial that a worker ends."""
        while True:
            busy = {worker.pipe: worker for worker in self._workers if worker.trial is not None}
            for ready in wait(list(busy)):
                worker = busy[ready]  # type: ignore[index]
                trial = worker.trial
                assert trial is not None
                try:
                    answer = worker.pipe.recv()
                except (EOFError, ConnectionResetError):
                    ended = self._replace(worker, trial)
                    if ended is not None:
                        return trial, ended
                    continue
                worker.trial = None
                if isinstance(answer, BaseException):
                    raise answer
                return trial, answer

    def close(self) -> None:
        """Stop all workers: an idle one ends by itself when its pipe is closed, a busy one is killed."""
        for worker in self._workers:
            worker.pipe.close()
        for worker in self._workers:
            worker.process.join(0 if worker.trial is not None else SECONDS_TO_END)
            worker.process.kill()
            worker.process.join()
        self._workers.clear()

    def _replace(self, worker: _Worker, trial: Trial) -> Ended | None:
        """Start a worker in the place of one that died; return the end of a trial that was given out often enough."""
        worker.process.join()
        code, place = worker.process.exitcode, self._workers.index(worker)
        self._workers[place] = self._start(worker.cores)
        self._died[trial.key] = self._died.get(trial.key, 0) + 1
        if self._died[trial.key] < TRIES:
            self._workers[place].trial = trial
            self._workers[place].pipe.send(trial)
            return None
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        why = f"its worker died {TRIES} times ({how}); is there memory for {self.capacity} workers?"
        return Ended({"row": trial.row, "settings": trial.settings, "seconds": 0.0, "failed": why})

    def _start(self, cores: list[int]) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        threads = str(max(1, len(cores)))
        before = os.environ.get("OMP_NUM_THREADS")
        os.environ["OMP_NUM_THREADS"] = threads if before is None else str(min(int(threads), int(before)))
        try:
            process = context.Process(target=_work, args=(theirs, self.out, cores, os.getpid()), daemon=True)
            process.start()
        finally:
            if before is None:
                del os.environ["OMP_NUM_THREADS"]
            else:
                os.environ["OMP_NUM_THREADS"] = before
        theirs.close()
        return _Worker(process, ours, cores)


def share_cores(worker: int, workers: int) -> list[int]:
    """Return the cores of one of several workers: each core has one of them, or a worker shares one.

    Args:
        worker: Which of them, from 0.
        workers: How many there are, 1 or more.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    return cores[worker::workers] or [cores[worker % len(cores)]]


def _work(pipe: Connection, out: Path, cores: list[int], parent: int) -> None:
    """Run trials until the parent is gone; Ctrl-C in the terminal is the parent's."""
    os.setpgrp()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    use_threads(int(os.environ["OMP_NUM_THREADS"]))
    shared = SharedWork(out)
    while True:
        try:
            trial = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(run_trial(trial, shared, out))
        except OSError as error:  # a full disk ends the experiment
            pipe.send(error)


def _follow(parent: int) -> None:
    """End this process soon after its parent, which may have been killed."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
