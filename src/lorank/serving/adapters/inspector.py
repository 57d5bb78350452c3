"""The server's side of the inspection: folders are checked in another process before anything here reads them."""

import copy
import itertools
import json
import logging
import os
import pickle
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Late
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lorank.errors import LorankError
from lorank.ranking.scorers.ranker import TrainableRanker

logger = logging.getLogger("lorank")

ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
PROGRAM = "import sys; from lorank.serving.adapters.inspection import main; main(sys.argv[1])"
START_S, ANSWER_S = 120.0, 600.0
"""Seconds that the process has to start, and to answer; it bounds every check by itself, and far below that."""


@dataclass(frozen=True)
class Facts:
    """What is known of the base: enough to tell whether an adapter fits, without its weights.

    ``module`` is its skeleton, on the meta device; ``most_bytes`` is the memory that adapters have.
    """

    kind: str
    base: str
    all_options: Mapping[str, Any]
    module: nn.Module
    most_bytes: int

    def options(self) -> Mapping[str, Any]:
        """Return the options that the base was opened with."""
        return self.all_options


class NoInspection(LorankError):
    """A folder could not be checked for a reason that is not its own."""


class Inspector:
    """A process that reads folders in children with limits; it is started anew where it has died."""

    def __init__(self, ranker: TrainableRanker, most_bytes: int) -> None:
        facts = Facts(ranker.kind, str(ranker.base), dict(ranker.options()), skeleton_of(ranker.module), most_bytes)
        self._facts = pickle.dumps(facts)
        self._numbers, self._lock = itertools.count(), threading.Lock()
        self._pending: dict[int, Future[dict[str, Any]]] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._start()

    def check(self, name: str, folder: Path) -> Sequence[str]:
        """Return remarks on the adapter in ``folder``.

        Raises:
            LorankError: the adapter cannot be served; the message says why.
            NoInspection: the process could not say.
        """
        answer: Future[dict[str, Any]] = Future()
        number = next(self._numbers)
        try:
            with self._lock:
                process = self._start()
                self._pending[number] = answer
                assert process.stdin is not None
                process.stdin.write(json.dumps({"id": number, "name": name, "folder": str(folder)}).encode() + b"\n")
                process.stdin.flush()
            result = answer.result(START_S + ANSWER_S)
        except (OSError, Late) as error:
            raise NoInspection(f"adapter {name!r} could not be checked ({error!r}); ask again") from error
        finally:
            self._pending.pop(number, None)
        if result["error"] is not None:
            reason = printable(str(result["error"]))
            raise LorankError(reason if name in reason else f"adapter {name!r}: {reason}")
        return [printable(str(remark)) for remark in result["remarks"]]

    def close(self) -> None:
        """End the process."""
        self._closed = True
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _start(self) -> "subprocess.Popen[bytes]":
        """Return the process, started where there is none that lives."""
        if self._closed:
            raise NoInspection("the server is about to stop")
        if self._process is not None and self._process.poll() is None:
            return self._process
        if self._process is not None:
            logger.error("the inspector ended with status %s and is started again", self._process.returncode)
        handle, path = tempfile.mkstemp(prefix="lorank-facts-")
        with os.fdopen(handle, "wb") as file:
            file.write(self._facts)
        process = self._process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                PROGRAM,
                path,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, **dict.fromkeys(ONE_THREAD, "1"), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        threading.Thread(target=self._receive, args=[process], name="inspector", daemon=True).start()
        return process

    def _receive(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            result = json.loads(line)
            pending = self._pending.pop(result["id"], None)
            if pending is not None:
                pending.set_result(result)
        if process is self._process:
            for number in list(self._pending):
                pending = self._pending.pop(number, None)
                if pending is not None:
                    pending.set_exception(OSError("the inspector ended"))


def skeleton_of(module: nn.Module) -> nn.Module:
    """Return a copy of ``module`` whose tensors are on the meta device: shapes without numbers."""
    instead: dict[int, object] = {}
    for tensor in (*module.parameters(), *module.buffers()):
        empty = torch.empty_like(tensor, device="meta")
        parameter = isinstance(tensor, nn.Parameter)
        instead[id(tensor)] = nn.Parameter(empty, requires_grad=False) if parameter else empty
    return copy.deepcopy(module, instead)


def printable(text: str, most: int = 600) -> str:
    """Return ``text`` on one line, of at most ``most`` characters, with what cannot be printed escaped.

    >>> printable("a\\nb"), printable("x" * 100, most=5)
    ('a\\\\nb', 'xxxxx...')
    """
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: most + 1])
    return plain if len(plain) <= most else plain[:most] + "..."
