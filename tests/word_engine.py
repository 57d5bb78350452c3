"""A small engine whose scores are a formula, and a live server around any engine, for tests of the API."""

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from lorank.errors import LorankError
from lorank.ranking.calibration.platt import Platt
from lorank.serving.http.app import make_app
from lorank.serving.http.middleware import RequestMiddleware
from lorank.serving.http.server import Server
from lorank.serving.requests.engine import Job, Scored, UnknownAdapter
from lorank.serving.requests.keys import Caller, Keys, hash_key
from lorank.serving.requests.limits import Limits

READ = 20
THRESHOLD = 5.0
"""Words of a document that the engine reads; the certified threshold of acme, on the scale of its scores."""
PLATT = Platt(2.0, -1.0)
ADAPTERS = {"acme": 2.0, "globex": -1.0, "initech": 0.5}
KEYS = {"acme": "lr-acme-key", "globex": "lr-globex-key", "operator": "lr-operator-key"}


def words_shared(query: str, document: str) -> int:
    """Return how many of the first READ words of a document occur in the query."""
    return sum(word in query.split() for word in document.split()[:READ])


class WordEngine:
    """score = weight of the adapter x shared words; acme is calibrated and has a threshold, "broken" is broken,
    "poison" raises."""

    base_name = "words"

    def __init__(self, second_a_document: float = 0.0) -> None:
        self.second_a_document, self.closed = second_a_document, False
        self.batches: list[list[Job]] = []
        self.versions = dict.fromkeys(ADAPTERS, 1)
        self.started = 0
        self.gate = threading.Event()
        self.gate.set()

    def score(self, jobs: Sequence[Job]) -> list[Scored | LorankError]:
        self.started += 1
        self.gate.wait(600)
        self.batches.append(list(jobs))
        time.sleep(self.second_a_document * sum(len(job.documents) for job in jobs))
        return [self._one(job) for job in jobs]

    def _one(self, job: Job) -> Scored | LorankError:
        if job.adapter == "broken":
            return LorankError("/secret/place/broken: adapter_model.safetensors is torn; save it again")
        if "poison" in job.query:
            raise RuntimeError("the engine met poison")
        weight = 1.0 if job.adapter is None else ADAPTERS[job.adapter]
        scores = np.array([weight * words_shared(job.query, text) for text in job.documents], np.float32)
        cut = np.array([len(text.split()) > READ for text in job.documents], bool)
        tokens = sum(min(len(text.split()), READ) for text in job.documents)
        if job.adapter != "acme":
            return Scored(scores, tokens, int(cut.sum()), None, cut)
        return Scored(scores, tokens, int(cut.sum()), PLATT(scores), cut, scores >= THRESHOLD)

    def adapters(self) -> list[str]:
        return sorted([*ADAPTERS, "broken"])

    def version(self, adapter: str | None) -> str:
        if adapter not in (None, *self.adapters()):
            raise UnknownAdapter("no such adapter")
        return str(self.versions.get(adapter, 0))

    def close(self) -> None:
        self.closed = True


class SteppedEngine(WordEngine):
    """A word engine that scores one batch for each of its ``permits``, so that tests know what has been scored."""

    def __init__(self, second_a_document: float = 0.0, permits: int = 0) -> None:
        super().__init__(second_a_document)
        self.permits, self.asked = threading.Semaphore(permits), 0

    def score(self, jobs: Sequence[Job]) -> list[Scored | LorankError]:
        self.asked += 1
        self.permits.acquire(timeout=600)
        return super().score(jobs)

    def let_go(self) -> None:
        """Score all that comes from now on."""
        self.permits.release(1_000_000)

    def batches_of(self, word: str) -> list[int]:
        """Return the numbers of the batches that held a list whose query begins with ``word``."""
        return [i for i, batch in enumerate(self.batches) if any(job.query.startswith(word) for job in batch)]


def tenant_keys() -> Keys:
    """Return the keys of two tenants, and of an operator who may call everything."""
    return Keys(
        [
            (hash_key(KEYS["acme"]), Caller("acme", frozenset({"acme"}))),
            (hash_key(KEYS["globex"]), Caller("globex", frozenset({"globex", "initech"}))),
            (hash_key(KEYS["operator"]), Caller("operator")),
        ]
    )


def bearer(name: str) -> dict[str, str]:
    """Return the header with a tenant's key."""
    return {"Authorization": f"Bearer {KEYS[name]}"}


@contextmanager
def live(
    engine: object, keys: Keys | None = None, limits: Limits | None = None
) -> Iterator[tuple[str, RequestMiddleware]]:
    """Serve ``engine``, or an application, on loopback in a thread; yield its address and the application."""
    said: list[str] = []
    listening = threading.Event()
    is_made = isinstance(engine, RequestMiddleware)
    application = engine if is_made else make_app(engine, keys, limits or Limits(collect_ms=0))
    server = Server(application, "127.0.0.1", 0, say=lambda address: (said.append(address), listening.set()))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    assert listening.wait(120)
    try:
        yield said[0], application
    finally:
        server.handle_exit(15, None)
        thread.join(120)
