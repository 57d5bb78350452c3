"""A short self-test that chooses a scoring path: the fastest whose order agrees with float32's.

Every path scores the same pairs; its order within each query is compared with ``torch-float32``'s as `lorank agree`
does it, and its speed is the median of a few rounds in which all paths take turns.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lorank.ranking.metrics.agreement import compare_runs
from lorank.ranking.scorers.batching import batches_by_length
from lorank.ranking.scorers.cross_encoder import CrossEncoder
from lorank.ranking.scorers.pair_inputs import PairInputs, PairSpans
from lorank.ranking.scorers.paths.path import PATHS, Logits
from lorank.ranking.types import Run

REFERENCE = "torch-float32"


@dataclass(frozen=True)
class PathTested:
    """What the self-test found of one path.

    Args:
        name: the path.
        pairs_per_second: its speed, 0 where it cannot be taken.
        tau: mean Kendall's tau with float32 within a query, in [-1, 1].
        change: the largest change of a score, in units of the spread of float32's scores.
        why_not: why it cannot be taken or was refused; None for those that may be chosen.
    """

    name: str
    pairs_per_second: float = 0.0
    tau: float = float("nan")
    change: float = float("nan")
    why_not: str | None = None


def self_test(
    ranker: CrossEncoder,
    queries: Sequence[str],
    documents: Sequence[str],
    *,
    names: Sequence[str] | None = None,
    least_tau: float = 0.98,
    rounds: int = 3,
    on_progress: Callable[[str], None] = lambda name: None,
) -> list[PathTested]:
    """Return what was found of every path of ``names``, fastest first.

    Args:
        ranker: The cross-encoder that is scored by every path.
        queries: The texts of the queries, each of which is paired with each document.
        documents: The texts of the documents.
        names: The paths to test; None tests all.
        least_tau: The lowest Kendall tau, from -1 to 1, to the order of the reference path that is accepted.
        rounds: The number of timed repetitions, 1 or more.
        on_progress: It receives the name of each path before the path is opened.
    """
    asked = list(dict.fromkeys([REFERENCE, *(names or PATHS)]))
    inputs, spans = _pairs(ranker, queries, documents)
    opened: dict[str, Logits] = {}
    found: dict[str, PathTested] = {}
    for name in asked:
        why = PATHS[name].missing(ranker)
        if why is not None:
            found[name] = PathTested(name, why_not=why)
            continue
        on_progress(name)
        opened[name] = PATHS[name].open(ranker)
    scores = {name: _scores(ranker, logits, inputs, spans) for name, logits in opened.items()}
    seconds: dict[str, list[float]] = {name: [] for name in opened}
    for _ in range(rounds):
        for name, logits in opened.items():
            begun = time.perf_counter()
            _scores(ranker, logits, inputs, spans)
            seconds[name].append(time.perf_counter() - begun)
    for name in opened:
        tau, change = agreement(scores[REFERENCE], scores[name], len(documents))
        why = None if tau >= least_tau else f"tau {tau:.3f} is below {least_tau}"
        found[name] = PathTested(name, len(spans) / statistics.median(seconds[name]), tau, change, why)
    return sorted(found.values(), key=lambda each: -each.pairs_per_second)


def choose_path(tested: Sequence[PathTested]) -> str:
    """Return the name of the fastest path that was not refused."""
    return max((each for each in tested if each.why_not is None), key=lambda each: each.pairs_per_second).name


def agreement(reference: np.ndarray, scores: np.ndarray, width: int) -> tuple[float, float]:
    """Return mean tau within lists of ``width``, and the largest change over the spread of the reference.

    Scores that are no numbers have no tau and change infinitely.

    >>> agreement(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 2.0, 4.0, 3.0]), 4)
    (0.66..., 0.89...)
    """
    if not np.isfinite(scores).all():
        return float("nan"), float("inf")
    if width < 2:
        tau = 1.0
    else:
        first, second = (as_run(each, width) for each in (reference, scores))
        tau = compare_runs(first, second, rng=np.random.default_rng(0)).tau.mean
    spread = float(reference.std()) or 1.0
    return tau, float(np.abs(scores - reference).max() / spread)


def as_run(scores: np.ndarray, width: int) -> Run:
    """Return scores, ``width`` of each query, as a run."""
    rows = scores.reshape(-1, width).tolist()
    return {str(query): {str(place): score for place, score in enumerate(row)} for query, row in enumerate(rows)}


def _pairs(ranker: CrossEncoder, queries: Sequence[str], documents: Sequence[str]) -> tuple[PairInputs, PairSpans]:
    inputs = ranker.prepare(queries, documents)
    pairs = np.array([(q, d) for q in range(len(queries)) for d in range(len(documents))])
    return inputs, ranker.first_spans(inputs, pairs)


def _scores(ranker: CrossEncoder, logits: Logits, inputs: PairInputs, spans: PairSpans) -> np.ndarray:
    scores = np.zeros(len(spans), np.float32)
    lengths = spans.query.length + spans.document.length + ranker.template.pair_cost
    for rows in batches_by_length(lengths, ranker.scoring_budget(), np.arange(len(spans))):
        scores[rows] = logits(ranker.assemble(inputs, spans[rows]))
    return scores
