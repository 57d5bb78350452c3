"""Fusion of runs: weighted sums of normalised scores, reciprocal ranks, and weights chosen on judged queries.

    fused(q, d) = sum_i w_i n_i(s_i(q, d))

where n_i maps the scores of run i for query q to one scale: ``z`` (s - mean) / std, ``minmax``
(s - min) / (max - min), ``rank`` 1 - (rank - 1) / n. (Fox and Shaw 1994, Combination of Multiple Searches;
Bruch et al. 2023, An Analysis of Fusion Functions for Hybrid Retrieval, arXiv 2210.11934.)

A document that a run does not list for a query gets the lowest normalised score of that list: the run ranked it
no higher. A run without the query says nothing about it and adds 0 for all documents.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np

from lorank.errors import UsageError, unknown_name
from lorank.ranking.types import Run

Normalise = Literal["z", "minmax", "rank"]


def standardise(scores: np.ndarray) -> np.ndarray:
    """Return float64 scores [n] with mean 0 and (population) standard deviation 1; equal ones give 0.

    >>> standardise(np.array([1.0, 2.0, 3.0])).round(4).tolist()
    [-1.2247, 0.0, 1.2247]
    >>> standardise(np.array([7.0])).tolist()
    [0.0]
    """
    scores = _finite(scores)
    if not len(scores) or scores.min() == scores.max():
        return np.zeros(len(scores))
    centred = scores / np.abs(scores).max()
    centred -= centred.mean()
    deviation = centred.std()
    return centred / deviation if deviation > 0 else np.zeros(len(scores))


def to_unit_interval(scores: np.ndarray) -> np.ndarray:
    """Return float64 scores [n] moved and scaled to [0, 1]; equal ones give 0.

    >>> to_unit_interval(np.array([2.0, 6.0, 4.0])).tolist()
    [0.0, 1.0, 0.5]
    """
    scores = _finite(scores)
    if not len(scores) or scores.min() == scores.max():
        return np.zeros(len(scores))
    return np.asarray((scores - scores.min()) / (scores.max() - scores.min()))


def _finite(scores: np.ndarray) -> np.ndarray:
    scores = np.asarray(scores, np.float64)
    if not np.isfinite(scores).all():
        raise UsageError("a run holds a score that is NaN or infinite; scores must be finite to be fused")
    return scores


def ranks(row: dict[str, float]) -> dict[str, int]:
    """Return the rank of each document from 1, by score descending, ties by document id descending.

    >>> ranks({"a": 0.5, "b": 0.5, "c": 0.9})
    {'c': 1, 'b': 2, 'a': 3}
    """
    order = sorted(row, key=lambda document: (row[document], document), reverse=True)
    return {document: place for place, document in enumerate(order, 1)}


def _by_scores(function: Callable[[np.ndarray], np.ndarray]) -> Callable[[dict[str, float]], dict[str, float]]:
    return lambda row: dict(zip(row, function(np.array(list(row.values()))).tolist(), strict=True))


def _by_rank(row: dict[str, float]) -> dict[str, float]:
    _finite(np.array(list(row.values())))
    return {document: 1 - (place - 1) / len(row) for document, place in ranks(row).items()}


NORMALISATIONS: dict[str, Callable[[dict[str, float]], dict[str, float]]] = {
    "z": _by_scores(standardise),
    "minmax": _by_scores(to_unit_interval),
    "rank": _by_rank,
}


def standardise_run(run: Run) -> Run:
    """Return the run with each query's scores standardised."""
    return {query: NORMALISATIONS["z"](row) for query, row in run.items()}


def fuse(runs: Sequence[Run], weights: Sequence[float] | np.ndarray, normalise: Normalise = "z") -> Run:
    """Return the weighted sum of normalised runs, over the documents that any of them lists.

    Args:
        runs: One or more runs; a query counts when any run has it.
        weights: One finite weight a run.
        normalise: How scores are brought to one scale, per query: "z", "minmax" or "rank".

    Raises:
        UsageError: No runs, another number of weights, an unknown normalisation, or scores that are not finite.

    >>> fuse([{"q": {"a": 2.0, "b": 0.0}}, {"q": {"b": 5.0, "c": 3.0}}], [0.5, 0.5], "minmax")
    {'q': {'a': 0.5, 'b': 0.5, 'c': 0.0}}
    """
    weights = _check_weights(weights, len(runs))
    return _weigh(list(_align(runs, normalise)), weights)


def _check_weights(weights: Sequence[float] | np.ndarray, runs: int) -> np.ndarray:
    weights = np.asarray(weights, np.float64)
    if not runs:
        raise UsageError("there is no run to fuse; give at least one")
    if weights.shape != (runs,) or not np.isfinite(weights).all():
        raise UsageError(f"weights {weights.tolist()} do not fit {runs} runs; give one finite number a run")
    return weights


def _align(runs: Sequence[Run], normalise: str) -> Iterator[tuple[str, list[str], np.ndarray]]:
    """Yield for each query its documents [n] and their normalised scores float64 [runs, n]."""
    if normalise not in NORMALISATIONS:
        raise unknown_name("normalisation", normalise, NORMALISATIONS)
    normal = NORMALISATIONS[normalise]
    for query in dict.fromkeys(query for run in runs for query in run):
        rows = [normal(run[query]) if run.get(query) else {} for run in runs]
        documents = list(dict.fromkeys(document for row in rows for document in row))
        lowest = [min(row.values(), default=0.0) for row in rows]
        scores = np.array(
            [[row.get(document, low) for document in documents] for row, low in zip(rows, lowest, strict=True)]
        )
        yield query, documents, scores


def _weigh(aligned: list[tuple[str, list[str], np.ndarray]], weights: np.ndarray) -> Run:
    return {
        query: dict(zip(documents, (weights @ scores).tolist(), strict=True)) for query, documents, scores in aligned
    }


def reciprocal_rank_fusion(runs: Sequence[Run], k: float = 60.0) -> Run:
    """Return sum_i 1 / (k + rank_i(d)) over the runs that list the document (Cormack et al. 2009, SIGIR).

    >>> reciprocal_rank_fusion([{"q": {"a": 9.0, "b": 1.0}}, {"q": {"b": 3.0}}], k=1)
    {'q': {'a': 0.5, 'b': 0.8333...}}
    """
    if not runs:
        raise UsageError("there is no run to fuse; give at least one")
    if not k >= 0:
        raise UsageError(f"k is {k}; reciprocal rank fusion takes k from 0 up")
    fused: Run = {}
    for run in runs:
        for query, row in run.items():
            total = fused.setdefault(query, {})
            for document, place in ranks(row).items():
                total[document] = total.get(document, 0.0) + 1 / (k + place)
    return fused


def weight_grid(runs: int, steps: int) -> np.ndarray:
    """Return all weights float64 [n, runs] from 0 to 1 in ``steps`` equal steps that add up to 1.

    >>> weight_grid(2, 2).tolist()
    [[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]
    """
    if runs == 1:
        return np.ones((1, 1))

    def parts(places: int, left: int) -> Iterator[tuple[int, ...]]:
        if places == 1:
            yield (left,)
            return
        for first in range(left + 1):
            for rest in parts(places - 1, left - first):
                yield first, *rest

    return np.array(list(parts(runs, steps)), np.float64) / steps


def tune_weights(
    runs: Sequence[Run], measure: Callable[[Run], float], *, steps: int = 20, normalise: Normalise = "z"
) -> np.ndarray:
    """Return the weights float64 [runs] of the fusion that ``measure`` likes best, on a grid over the simplex.

    Args:
        runs: The runs on the queries to tune on (dev, never test).
        measure: Judges a fused run; higher is better, for example its mean nDCG@10.
        steps: The grid has weights 0, 1/steps, ..., 1, so each run alone is among the choices. There are
            C(steps + runs - 1, runs - 1) of them: 21 for two runs, 231 for three at 20 steps.
        normalise: As for ``fuse``.

    Weights that measure the same (to 1e-12) are settled by nearness to equal weights, then by the grid's order.
    """
    if steps < 1:
        raise UsageError(f"steps is {steps}; the grid needs at least one")
    if not runs:
        raise UsageError("there is no run to fuse; give at least one")
    aligned = list(_align(runs, normalise))
    grid = weight_grid(len(runs), steps)
    values = np.array([measure(_weigh(aligned, weights)) for weights in grid])
    if np.isnan(values).any():
        raise UsageError("the measure is NaN for a fused run; are there judged queries in the runs?")
    unevenness = ((grid - 1 / len(runs)) ** 2).sum(axis=1)
    best = np.flatnonzero(values >= values.max() - 1e-12)
    return np.asarray(grid[best[np.argmin(unevenness[best].round(12))]])
