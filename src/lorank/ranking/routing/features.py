"""What is known of a query before an arm is chosen: its words, and what runs that are there already say of it."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from lorank.ranking.scorers.bm25 import BM25Statistics
from lorank.ranking.types import Run

QUERY = ("words", "characters", "mean idf", "largest idf", "share of known words", "is a question", "has a digit")
RUN = ("first score", "gap of first and tenth", "deviation", "entropy", "documents")
QUESTION = re.compile(r"^(who|what|when|where|why|how|which|is|are|can|does|do)\b|\?\s*$", re.IGNORECASE)


def query_features(queries: Sequence[str], statistics: BM25Statistics) -> np.ndarray:
    """Return what a query's text says, float64 [queries, 7], in the order of ``QUERY``.

    Args:
        queries: The texts of the queries.
        statistics: The term statistics of the collection.
    """
    rows = []
    for query, known in zip(queries, statistics.known_terms(list(queries)), strict=True):
        words = query.split()
        idf = [float(statistics.idf[term]) for term in known] or [0.0]
        share = len(known) / max(1, len(words))
        flags = float(bool(QUESTION.search(query))), float(any(c.isdigit() for c in query))
        rows.append([len(words), len(query), float(np.mean(idf)), float(np.max(idf)), share, *flags])
    return np.asarray(rows, np.float64).reshape(len(queries), len(QUERY))


def run_features(run: Run, queries: Mapping[str, str]) -> np.ndarray:
    """Return what a run's scores say of each query, float64 [queries, 5], in the order of ``RUN``.

    >>> run_features({"q": {"a": 2.0, "b": 1.0}}, {"q": "words", "r": "none"}).round(2).tolist()
    [[2.0, 1.0, 0.5, 0.58, 2.0], [0.0, 0.0, 0.0, 0.0, 0.0]]
    """
    rows = []
    for query in queries:
        scores = np.sort(np.array(list(run.get(query, {}).values()), np.float64))[::-1]
        if not len(scores):
            rows.append([0.0] * len(RUN))
            continue
        shares = np.exp(scores[:10] - scores[0])
        shares /= shares.sum()
        entropy = float(-(shares * np.log(np.maximum(shares, 1e-12))).sum())
        rows.append([scores[0], scores[0] - scores[:10][-1], scores.std(), entropy, len(scores)])
    return np.asarray(rows, np.float64).reshape(len(queries), len(RUN))
