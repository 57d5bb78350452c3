"""ANNCUR: a cross-encoder's scores of all items, from its scores of a few.

Offline the cross-encoder scores k_q anchor queries with all n items, R [k_q, n]. Online it scores the query with k_i
anchor items only, c [k_i], and with A = R[:, anchors], which is [k_q, k_i], all its scores are estimated as

    s = c A^+ R,

the CUR decomposition of the matrix of scores with the query's row added: exact where that matrix has the rank of A.
The best of the estimates are then scored exactly. Cross-encoder calls: k_i + reranked.

Paper: Yadav, Monath, Angell, Zaheer and McCallum, Efficient Nearest Neighbor Search for Cross-Encoder Models using
Matrix Factorization, 2022.

*Deviations*: singular values of A below ``cutoff`` of the largest are dropped (the paper takes the pseudo-inverse as it
is); anchor items, whose scores are known, count as scored.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lorank.catalogue import catalogued
from lorank.errors import UsageError

Score = Callable[[Sequence[int]], np.ndarray]
"""Returns the cross-encoder's scores of the present query with the items at these positions."""


@dataclass(frozen=True)
class Found:
    """``order`` of the items that were scored exactly, best first, ``estimates`` [items] of all, and the ``calls``."""

    order: tuple[int, ...]
    estimates: np.ndarray
    calls: int


@catalogued(
    "anncur",
    area="retrieve",
    title="Efficient Nearest Neighbor Search for Cross-Encoder Models using Matrix Factorization",
    reach="Python alone: its index takes a matrix of a cross-encoder's scores for anchor queries",
)
class CurIndex:
    """An index of items by a cross-encoder's scores with anchor queries.

    Args:
        scores: Float [anchor queries, items], the cross-encoder's.
        anchors: How many anchor items, drawn at random, or their positions.
        cutoff: Share of the largest singular value under which one counts as 0.
        seed: Of the draw.

    >>> index = CurIndex(np.array([[1.0, 2.0, 3.0]]), [1])
    >>> index.estimate(np.array([4.0])).tolist()
    [2.0, 4.0, 6.0]
    """

    def __init__(
        self, scores: np.ndarray, anchors: int | Sequence[int], *, cutoff: float = 1e-6, seed: int = 0
    ) -> None:
        self.scores = np.asarray(scores, np.float64)
        if self.scores.ndim != 2 or not self.scores.size or not np.isfinite(self.scores).all():
            raise UsageError("an index needs finite scores [anchor queries, items], one of each at least")
        items = self.scores.shape[1]
        if isinstance(anchors, int):
            if not 1 <= anchors <= items:
                raise UsageError(f"{anchors} anchors of {items} items cannot be drawn")
            anchors = np.random.default_rng(seed).choice(items, anchors, replace=False).tolist()
        self.anchors = [int(item) for item in anchors]
        if (
            not self.anchors
            or len(set(self.anchors)) != len(self.anchors)
            or not all(0 <= item < items for item in self.anchors)
        ):
            raise UsageError(f"anchors are different positions from 0 to {items - 1}, one at least")
        self._inverse = np.linalg.pinv(self.scores[:, self.anchors], rcond=cutoff)

    def estimate(self, known: np.ndarray) -> np.ndarray:
        """Return all items' estimated scores, float64 [items], from the ``known`` ones of the anchors [anchors]."""
        known = np.asarray(known, np.float64)
        if known.shape != (len(self.anchors),):
            raise UsageError(f"give one score for each of the {len(self.anchors)} anchors, got {known.shape}")
        estimates = known @ self._inverse @ self.scores
        estimates[self.anchors] = known
        return estimates

    def search(self, score: Score, reranked: int) -> Found:
        """Return the best items by exact scores of the anchors and of the ``reranked`` best others by estimate."""
        if reranked < 0:
            raise UsageError(f"reranked must be 0 or above, got {reranked}")
        known = np.asarray(score(self.anchors), np.float64)
        estimates = self.estimate(known)
        anchors = set(self.anchors)
        others = [int(i) for i in np.argsort(-estimates, kind="stable") if int(i) not in anchors][:reranked]
        exact = dict(zip(self.anchors, known.tolist(), strict=True))
        if others:
            exact |= dict(zip(others, np.asarray(score(others), np.float64).tolist(), strict=True))
        order = sorted(exact, key=lambda item: (-exact[item], item))
        return Found(tuple(order), estimates, len(exact))
