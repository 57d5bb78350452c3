"""nDCG for any finite grades: real-valued, huge, with gains of one's own.

    nDCG@k = sum_{i <= k} G(g_i) / log2(i + 1)  /  the same for the grades in descending order,

    G(g) = g (``log2``, trec_eval)     or     G(g) = 2^g - 1 (``exp-log2``),       G = 0 where g <= 0 or nobody judged

A common factor of all gains cancels, so they are computed relative to the largest grade M: g / M, and
2^(g - M) - 2^(-M). Neither overflows for any finite grade. trec_eval holds gains in whole numbers and an array as long
as the largest of them; its code is used where that fits (:mod:`lorank.ranking.metrics.measures`).
"""

from collections.abc import Mapping, Sequence

import numpy as np


def gains_of(grades: np.ndarray, dcg: str) -> np.ndarray:
    """Return gains of positive grades float64 [n], up to a common factor.

    >>> gains_of(np.array([1.0, 3.0]), "log2") * 3, gains_of(np.array([1.0, 3.0]), "exp-log2") * 8
    (array([1., 3.]), array([1., 7.]))
    """
    largest = grades.max(initial=0.0)
    if largest <= 0:
        return np.zeros_like(grades)
    if dcg == "exp-log2":
        return np.asarray(-np.exp2(grades - largest) * np.expm1(-grades * np.log(2.0)))
    return np.asarray(grades / largest)


def ndcg(
    ranking: Sequence[str],
    grades: Mapping[str, float],
    cutoff: int | None = None,
    *,
    dcg: str = "log2",
    judged_only: bool = False,
) -> float:
    """Return nDCG of one query's ``ranking``, 0 where no grade is above 0.

    Args:
        ranking: The document ids, best first.
        grades: The grade of each judged document.
        cutoff: The number of places that count, 1 or more; None counts all.
        dcg: The gain of a grade: ``log2`` (the grade) or ``exp-log2`` (2^grade - 1).
        judged_only: True leaves out documents without a grade of 0 or above.

    >>> round(ndcg(["a", "b"], {"a": 0.5, "b": 1.5}), 4), ndcg(["b"], {"b": 2000}, dcg="exp-log2")
    (0.7967, 1.0)
    """
    if judged_only:
        ranking = [document for document in ranking if grades.get(document, -1) >= 0]
    positive = {document: float(grade) for document, grade in grades.items() if grade > 0}
    gains = gains_of(np.fromiter(positive.values(), np.float64, len(positive)), dcg)
    gain = dict(zip(positive, gains.tolist(), strict=True))
    found = np.array([gain.get(document, 0.0) for document in ranking[:cutoff]])
    ideal = np.sort(gains)[::-1][:cutoff]
    best = _discount(ideal)
    return float(_discount(found) / best) if best > 0 else 0.0


def _discount(gains: np.ndarray) -> float:
    return float((gains / np.log2(np.arange(2, len(gains) + 2))).sum())
