"""Two rankers, or one on two scoring paths, compared on a collection's own queries: order, quality, speed, size.

Both score the same candidates in parts that take turns, so that what else the machine does meets both alike.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lorank.data.collection import Collection
from lorank.progress import StageCallback
from lorank.ranking.metrics.agreement import Agreement, compare_runs
from lorank.ranking.types import Qrels, Run
from lorank.tuned.ranker import TunedRanker, rerank_run

PARTS = 4
"""How many parts of the queries the two rankers take turns with."""


@dataclass(frozen=True)
class RankerCost:
    """What a ranker costs: pairs scored per second, weights and their bytes; None where no torch module scores."""

    pairs_per_second: float
    weights: int | None
    bytes: int | None


@dataclass(frozen=True)
class RankerAgreement:
    """How far two rankers agree, what each costs, and their runs."""

    agreement: Agreement
    costs: tuple[RankerCost, RankerCost]
    runs: tuple[Run, Run]


def compare_rankers(
    first: TunedRanker,
    second: TunedRanker,
    collection: Collection,
    queries: Mapping[str, str],
    candidates: Run,
    *,
    rng: np.random.Generator,
    depth: int = 10,
    qrels: Qrels | None = None,
    measures: Sequence[str] = ("nDCG@10",),
    on_progress: StageCallback = lambda what, done, total: None,
) -> RankerAgreement:
    """Return how far two rankers agree on the candidates of a collection's queries.

    Args:
        first: The ranker that is compared with.
        second: The other ranker.
        collection: The collection that holds the documents.
        queries: Query to its text.
        candidates: The documents of each query, with their first-stage scores.
        rng: The source of the bootstrap's resamples.
        depth: The number of first places whose overlap is taken, 1 or more.
        qrels: Judgments, of some queries or all; None compares orders alone.
        measures: The measures that judgments are used for.
        on_progress: It receives the stage, the number of queries that are scored and their total.
    """
    runs: tuple[Run, Run] = ({}, {})
    seconds = [0.0, 0.0]
    known = [query for query in queries if candidates.get(query)]
    for part in _parts(known):
        texts = {query: queries[query] for query in part}
        rows = {query: candidates[query] for query in part}
        for side, ranker in enumerate((first, second)):
            began = time.perf_counter()
            runs[side].update(rerank_run(ranker, collection, texts, rows))
            seconds[side] += time.perf_counter() - began
        on_progress("score with both rankers", len(runs[1]), len(known))
    agreement = compare_runs(*runs, rng=rng, depth=depth, qrels=qrels, measures=measures)
    pairs = sum(len(candidates[query]) for query in known)
    costs = (_cost(first, pairs / seconds[0]), _cost(second, pairs / seconds[1]))
    return RankerAgreement(agreement, costs, runs)


def agreement_as_json(a: str, b: str, agreement: Agreement, costs: Sequence[RankerCost] = ()) -> dict[str, Any]:
    """Return an agreement as JSON-ready data, infinity as the string "inf".

    Args:
        a: The name of the first ranker or run.
        b: The name of the other.
        agreement: How far they agree.
        costs: What each costs; runs have none.
    """
    shown = {"a": a, "b": b, **asdict(agreement)} | ({"costs": [asdict(cost) for cost in costs]} if costs else {})
    made: dict[str, Any] = json.loads(json.dumps(shown).replace("Infinity", '"inf"'))
    return made


def _parts(queries: Sequence[str]) -> list[Sequence[str]]:
    """Return the queries in at most ``PARTS`` runs of about the same length."""
    return [queries[part[0] : part[-1] + 1] for part in np.array_split(np.arange(len(queries)), PARTS) if len(part)]


def _cost(ranker: TunedRanker, speed: float) -> RankerCost:
    module: Any = getattr(ranker.ranker, "module", None)
    if module is None or getattr(ranker.ranker, "path_logits", None) is not None:
        return RankerCost(speed, None, None)
    tensors = {(t.data_ptr(), t.numel()): t for t in module.parameters()}.values()
    return RankerCost(speed, sum(t.numel() for t in tensors), sum(t.numel() * t.element_size() for t in tensors))
