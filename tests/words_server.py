"""The word engine behind the real server in a process of its own, for tests of what clients can do to it.

python words_server.py '{"limits": {...}, "second_a_document": 0.01, "keys": "keys.txt"}'
"""

import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

HOME = Path(__file__).resolve().parent


@dataclass
class WordsServer:
    """A running process, its address and its log."""

    process: subprocess.Popen
    address: str
    log: Path

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def connect(self, sent: bytes = b"") -> socket.socket:
        """Return a connection on which ``sent`` was sent."""
        client = socket.create_connection(("127.0.0.1", self.port), timeout=120)
        client.sendall(sent)
        return client

    def rerank(self, documents: list, headers: dict | None = None, **more: object) -> requests.Response:
        """Ask for a list."""
        body = {"query": "a b c", "documents": documents, **more}
        return requests.post(f"{self.address}/v1/rerank", json=body, headers=headers, timeout=120)

    def health(self) -> float:
        """Return how many seconds /health took."""
        began = time.perf_counter()
        assert requests.get(f"{self.address}/health", timeout=120).ok
        return time.perf_counter() - began

    def metric(self, name: str) -> float:
        """Return the sum of a metric over its labels."""
        time.sleep(0.3)  # the page is kept for a moment
        page = requests.get(f"{self.address}/metrics", timeout=120).text
        return sum(float(row.split()[-1]) for row in page.splitlines() if row.split("{")[0].split(" ")[0] == name)

    def megabytes(self, what: str = "VmHWM") -> float:
        """Return the most memory that the process has held."""
        rows = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(row.split()[1]) for row in rows if row.startswith(what)) / 1024


@contextmanager
def words_server(log: Path, files: int | None = None, **options: object) -> Iterator[WordsServer]:
    """Start the server with ``options``; ``files`` is how many files it may open."""

    paths = os.pathsep.join([str(HOME), *filter(None, sys.path)])
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, __file__, json.dumps({**options, "files": files})],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        )
    try:
        said = process.stdout.readline().strip()
        assert said.startswith("http://"), log.read_text()
        yield WordsServer(process, said, log)
        assert process.poll() is None, "the server has ended"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def main() -> None:
    """Serve until killed."""
    from lorank.serving.http.app import make_app
    from lorank.serving.http.logs import open_log
    from lorank.serving.http.server import Server
    from lorank.serving.requests.limits import Limits
    from word_engine import WordEngine, tenant_keys

    options = json.loads(sys.argv[1])
    if options["files"] is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (options["files"],) * 2)
    open_log(options.get("log_format", "text"))
    engine = WordEngine(options.get("second_a_document", 0.0))
    engine.batches = deque(maxlen=100)  # a process that serves for long does not keep them all
    keys = tenant_keys() if options.get("keyed") else None
    application = make_app(engine, keys, Limits(**{"collect_ms": 0, **options.get("limits", {})}))
    Server(application, "127.0.0.1", 0, say=lambda address: print(address, flush=True)).run()


if __name__ == "__main__":
    main()
