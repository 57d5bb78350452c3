"""Scoring a large run on many machines with Ray: shards of queries, workers that hold the ranker, a journal of shards.

A shard holds a few queries, their candidates and the texts of these, so a worker needs nothing else; the ranker's
folder and its base must be readable on every machine. A worker that dies is started again and its shard is given out
once more; shards that are done are in the journal beside the output, so the same command goes on after the driver
itself was stopped. A shard's scores do not depend on who computes it: ``one_process`` gives the same ones to the bit,
where the workers have as many threads.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from lorank.data.collection import Collection
from lorank.errors import LorankError, UsageError
from lorank.progress import ProgressCallback
from lorank.ranking.types import Run
from lorank.tuned import load_ranker, rerank_run


@dataclass(frozen=True)
class Shard:
    """A few queries with their candidates' first-stage scores and texts."""

    queries: dict[str, str]
    candidates: dict[str, dict[str, float]]
    documents: dict[str, str]

    @property
    def digest(self) -> str:
        """What the journal knows the shard by."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:24]


def shards_of(collection: Collection, queries: Mapping[str, str], candidates: Run, size: int = 16) -> list[Shard]:
    """Divide the candidates into shards, in the order of the run.

    Args:
        collection: The collection that holds the texts of the documents.
        queries: The text of each query, by id; other queries of the run are left out.
        candidates: The first-stage scores of the documents to rerank for each query.
        size: The number of queries per shard, 1 or more.

    Raises:
        UsageError: If the collection holds feature rows.
    """
    if collection.has_features:
        raise UsageError(f"collection {collection.name!r} holds feature rows; --engine ray scores texts")
    asked = [query for query in candidates if query in queries]
    shards = []
    for begin in range(0, len(asked), size):
        part = {query: dict(candidates[query]) for query in asked[begin : begin + size]}
        wanted = {document: None for row in part.values() for document in row}
        texts = {document: str(collection.documents[collection.position[document]]) for document in wanted}
        shards.append(Shard({query: queries[query] for query in part}, part, texts))
    return shards


def score_shard(ranker: Any, shard: Shard) -> Run:
    """Return the shard's candidates with the ranker's scores."""
    collection = Collection("shard", list(shard.documents), list(shard.documents.values()), {})
    run: Run = rerank_run(ranker, collection, shard.queries, shard.candidates)
    return run


def one_process(folder: str | Path, shards: Sequence[Shard]) -> Run:
    """Score the shards one after the other in this process."""
    ranker = load_ranker(folder)
    return {query: row for shard in shards for query, row in score_shard(ranker, shard).items()}


def rerank_on_ray(
    folder: str | Path,
    shards: Sequence[Shard],
    journal: Path,
    *,
    workers: int = 2,
    threads: int = 1,
    address: str | None = None,
    on_progress: ProgressCallback = lambda done, total: None,
) -> Run:
    """Score the shards on a Ray cluster.

    Args:
        folder: a tuned ranker.
        shards: what is scored.
        journal: JSON lines of shards that are done, read and added to.
        workers: processes that hold the ranker.
        threads: cores that each of them uses.
        address: of the cluster; None starts one on this machine.
        on_progress: receives how many shards are done.

    Raises:
        UsageError: where Ray is not installed.
        LorankError: where a worker fails on a shard again and again, with the worker's message.
    """
    ray = _ray()
    ranker_digest = folder_digest(Path(folder))
    trim(journal)
    done = dict(read_journal(journal, ranker_digest))
    pending = [shard for shard in shards if shard.digest not in done]
    on_progress(len(shards) - len(pending), len(shards))
    if pending:
        ours = not ray.is_initialized()
        if ours:
            ray.init(
                address=address,
                num_cpus=workers * threads if address is None else None,
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
            )
        try:
            for shard, run in _score(ray, str(Path(folder).resolve()), pending, workers, threads):
                done[shard.digest] = run
                append(journal, ranker_digest, shard.digest, run)
                on_progress(len(shards) - len(pending) + sum(each.digest in done for each in pending), len(shards))
        finally:
            if ours:
                ray.shutdown()
    return {query: row for shard in shards for query, row in done[shard.digest].items()}


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise UsageError("--engine ray needs Ray: pip install 'lorank[cluster]'") from error
    return ray


class _Scorer:
    """What runs in a worker: the ranker, loaded once."""

    def __init__(self, folder: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self.ranker = load_ranker(folder)

    def score(self, shard: Shard) -> Run:
        return score_shard(self.ranker, shard)


def _score(ray: Any, folder: str, shards: Sequence[Shard], workers: int, threads: int) -> Iterator[tuple[Shard, Run]]:
    """Yield each shard with its scores as it is done; every worker has one shard at a time."""
    actor = ray.remote(num_cpus=threads, max_restarts=8, max_task_retries=8)(_Scorer)
    idle = [actor.remote(folder, threads) for _ in range(min(workers, len(shards)))]
    pending = list(reversed(shards))
    running: dict[Any, tuple[Shard, Any]] = {}
    while pending or running:
        while pending and idle:
            shard, worker = pending.pop(), idle.pop()
            running[worker.score.remote(shard)] = shard, worker
        (ready,), _ = ray.wait(list(running), num_returns=1)
        shard, worker = running.pop(ready)
        idle.append(worker)
        try:
            yield shard, ray.get(ready)
        except ray.exceptions.RayError as error:
            raise LorankError(
                f"the shard of query {next(iter(shard.queries))!r} failed in its worker: {error}; what "
                "is done is kept, and the same command goes on from there"
            ) from error


def folder_digest(folder: Path) -> str:
    """Return what changes whenever the files of ``folder`` do."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and "checkpoints" not in path.parts):
        digest.update(str(path.relative_to(folder)).encode())
        with path.open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()[:24]


def read_journal(journal: Path, ranker: str) -> Iterator[tuple[str, Run]]:
    """Yield (shard, run) of the shards that this ranker has done."""
    if journal.exists():
        for line in journal.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            if entry["ranker"] == ranker:
                yield entry["shard"], entry["run"]


def append(journal: Path, ranker: str, shard: str, run: Run) -> None:
    """Add a shard that is done; scores keep all their digits.

    Args:
        journal: The file of shards that are done, which is made if need be.
        ranker: The digest of the ranker's folder.
        shard: The digest of the shard.
        run: The scores of the shard's documents.
    """
    journal.parent.mkdir(parents=True, exist_ok=True)
    with journal.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"ranker": ranker, "shard": shard, "run": run}) + "\n")


def trim(journal: Path) -> None:
    """Cut off a last line that a crash left unfinished."""
    if journal.exists():
        with journal.open("r+b") as file:
            file.truncate(file.read().rfind(b"\n") + 1)
