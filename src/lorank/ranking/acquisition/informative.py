r"""How informative a candidate is: by what the ranker is unsure of, expects, or says otherwise than the first stage.

uncertainty    4 p (1 - p),  p = \sigma(z) with z the score standardised over the candidates of the query
relevance      \sigma(z)
disagreement   |rank by the ranker - rank by the first stage| / (candidates - 1)
"""

from collections.abc import Callable

import numpy as np

from lorank.ranking.consensus.fusion import standardise
from lorank.ranking.types import Run


def _sigmoid(scores: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-standardise(scores))))


def uncertainty(scores: np.ndarray, first_stage: np.ndarray) -> np.ndarray:
    """Return 4 p (1 - p) of each candidate [n]: 1 in the middle of the list, towards 0 at its ends.

    >>> uncertainty(np.array([1.0, 2.0, 3.0]), np.zeros(3)).round(2).tolist()
    [0.7, 1.0, 0.7]
    """
    p = _sigmoid(scores)
    return np.asarray(4 * p * (1 - p))


def relevance(scores: np.ndarray, first_stage: np.ndarray) -> np.ndarray:
    """Return sigma(z) of each candidate [n]: what is most likely relevant, as pools take it."""
    return _sigmoid(scores)


def disagreement(scores: np.ndarray, first_stage: np.ndarray) -> np.ndarray:
    """Return how far a candidate moves between the two orders [n], as a share of the list.

    >>> disagreement(np.array([3.0, 2.0, 1.0]), np.array([1.0, 2.0, 3.0])).tolist()
    [1.0, 0.0, 1.0]
    """
    ranks = [np.argsort(np.argsort(-values, kind="stable"), kind="stable") for values in (scores, first_stage)]
    return np.asarray(np.abs(ranks[0] - ranks[1]) / max(1, len(scores) - 1))


INFORMATIVE: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "uncertainty": uncertainty,
    "relevance": relevance,
    "disagreement": disagreement,
}
"""By name: of a query's scores and first-stage scores [n], how informative each candidate is, 0 to 1."""


def informative_pairs(
    scored: Run, first_stage: Run, judged: dict[str, dict[str, int | float]], by: str
) -> tuple[list[tuple[str, str]], np.ndarray]:
    """Return the (query, document) pairs that nobody has judged, and how informative each is.

    Args:
        scored: The ranker's scores of the candidates.
        first_stage: The first stage's scores of the same candidates.
        judged: The judgments that are there.
        by: A name in ``INFORMATIVE``.
    """
    pairs: list[tuple[str, str]] = []
    values: list[float] = []
    for query, row in scored.items():
        names = list(row)
        first = np.array([first_stage.get(query, {}).get(name, 0.0) for name in names])
        found = INFORMATIVE[by](np.array(list(row.values()), np.float64), first)
        for name, value in zip(names, found.tolist(), strict=True):
            if name not in judged.get(query, {}):
                pairs.append((query, name))
                values.append(value)
    return pairs, np.asarray(values)
