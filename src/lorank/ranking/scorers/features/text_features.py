r"""Simple features of a query and a text, for trees: what BM25 knows, and where and how the query's words stand.

bm25, bm25 / mass, bm25 of the first line, share of the query's terms that the text holds, the same by idf,
ln(1 + tf summed), tf summed / length, share of neighbouring terms that are neighbours in the text,
place of the first term / length, ln(1 + length), number of query terms
"""

import itertools
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from lorank.ranking.scorers.bm25 import BM25Statistics, terms_of
from lorank.ranking.scorers.texts import checked_pairs

NAMES = (
    "bm25",
    "bm25-share",
    "bm25-title",
    "coverage",
    "idf-coverage",
    "log-tf",
    "density",
    "neighbours",
    "first-place",
    "log-length",
    "query-terms",
)
"""The columns of a row."""


def text_features(
    statistics: BM25Statistics, queries: Sequence[str], documents: Sequence[str], pairs: np.ndarray
) -> np.ndarray:
    """Return the float32 rows [n, 11] of the pairs.

    Args:
        statistics: The term statistics of the collection.
        queries: The texts of the queries.
        documents: The texts of the documents; the first line counts as the title.
        pairs: The int64 [n, 2] positions in ``queries`` and ``documents``.

    >>> statistics = BM25Statistics.of(["a red fox", "a blue whale"])
    >>> row = text_features(statistics, ["red fox"], ["a red fox", "a whale"], np.array([[0, 0], [0, 1]]))
    >>> row[:, NAMES.index("coverage")].tolist(), row[:, NAMES.index("neighbours")].tolist()
    ([1.0, 0.0], [1.0, 0.0])
    """
    pairs = checked_pairs(queries, documents, pairs)
    rows = np.zeros((len(pairs), len(NAMES)), np.float32)
    if not len(pairs):
        return rows
    asked = terms_of(queries, statistics.language)
    used, at = np.unique(pairs[:, 1], return_inverse=True)
    texts = [documents[int(i)] for i in used]
    cut = terms_of(texts, statistics.language)
    held = [(Counter(terms), _first_places(terms), set(itertools.pairwise(terms))) for terms in cut]
    local = np.stack([pairs[:, 0], at.reshape(-1)], 1)
    mass = np.array([statistics.query_mass(query) for query in queries])
    rows[:, 0] = statistics.score_pairs(queries, texts, local)
    rows[:, 1] = rows[:, 0] / np.maximum(mass[pairs[:, 0]], 1e-9)
    rows[:, 2] = statistics.score_pairs(queries, [text.partition("\n")[0] for text in texts], local)
    for row, (query, place) in zip(rows, local.tolist(), strict=True):
        row[3:] = _of_pair(asked[query], cut[place], held[place], statistics)
    return rows


def _first_places(terms: Sequence[str]) -> dict[str, int]:
    return {term: place for place, term in reversed(list(enumerate(terms)))}


def _of_pair(
    asked: Sequence[str],
    terms: Sequence[str],
    held: tuple[Counter[str], dict[str, int], set[tuple[str, str]]],
    statistics: BM25Statistics,
) -> list[float]:
    counts, first, neighbours = held
    length = len(terms)
    found = [term for term in asked if term in counts]
    weights = {term: float(statistics.idf.get(term, 0.0)) for term in asked}
    total = sum(weights[term] for term in asked)
    tf = sum(counts[term] for term in set(found))
    pairs = list(itertools.pairwise(asked))
    return [
        len(found) / max(len(asked), 1),
        sum(weights[term] for term in found) / total if total > 0 else 0.0,
        math.log1p(tf),
        tf / max(length, 1),
        sum(pair in neighbours for pair in pairs) / max(len(pairs), 1),
        min((first[term] for term in found), default=length) / max(length, 1),
        math.log1p(length),
        float(len(asked)),
    ]
