"""ANNCUR: a cross-encoder's scores of all items, from its scores of a few.

Offline the cross-encoder scores k_q anchor queries with all n items, R [k_q, n]. Online it scores the query with k_i
anchor items only, c [k_i], and with A = R[:, anchors], which is [k_q, k_i], all its scores are estimated as

    s = c A^+ R,

the CUR decomposition of the matrix of scores with the query's row added: exact where that matrix has the rank of A.
The best of the estimates are then scored exactly. Cross-encoder calls: k_i + reranked.

As a strategy the items are the candidates of all lists, and the anchors of a query are drawn from its own candidates.
Calls: k_q times the number of different candidates once, and k_i + reranked a list; without other queries' scores there
is nothing to estimate from.

Paper: Yadav, Monath, Angell, Zaheer and McCallum, Efficient Nearest Neighbor Search for Cross-Encoder Models using
Matrix Factorization, 2022.

*Deviations*: singular values of A below ``cutoff`` of the largest are dropped (the paper takes the pseudo-inverse as it
is); anchor items, whose scores are known, count as scored. The paper draws the anchors once from all items.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.judges import Judge, Usage
from lorank.ranking.scorers.ranker import Ranker
from lorank.ranking.strategies.candidate_list import CandidateList
from lorank.ranking.strategies.opened_model import ranker_of
from lorank.ranking.strategies.registry import Ordered, Standing, register_model_strategy

Score = Callable[[Sequence[int]], np.ndarray]
"""Returns the cross-encoder's scores of the present query with the items at these positions."""


@dataclass(frozen=True)
class Found:
    """``order`` of the items that were scored exactly, best first, ``estimates`` [items] of all, and the ``calls``."""

    order: tuple[int, ...]
    estimates: np.ndarray
    calls: int


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


@register_model_strategy(
    "anncur",
    area="retrieve",
    title="Efficient Nearest Neighbor Search for Cross-Encoder Models using Matrix Factorization",
)
def anncur(
    model: Judge | Ranker,
    lists: Sequence[CandidateList],
    generator: np.random.Generator,
    *,
    queries: Sequence[str] = (),
    anchor_queries: int = 50,
    anchors: int = 20,
    reranked: int = 20,
) -> Iterator[Ordered]:
    """Yield each list with its anchors and its best estimates in exact order, and the others by their estimates.

    Args:
        model: The ranker whose scores are estimated.
        lists: The candidates of each query.
        generator: It draws the anchor queries and the anchors.
        queries: Other queries, of which anchor queries are drawn; `lorank rerank` gives those of the other splits.
        anchor_queries: The most anchor queries, 1 or more.
        anchors: The most candidates of a list that are scored at first, 1 or more.
        reranked: The most further candidates of a list that are scored exactly, 0 or more.

    Raises:
        UsageError: Without other queries, for a judge that is asked, and for a number out of its range.
    """
    ranker = ranker_of(model, "anncur")
    if anchor_queries < 1 or anchors < 1 or reranked < 0:
        raise UsageError(
            f"anchor_queries and anchors must be 1 or above and reranked 0 or above, got {anchor_queries}, {anchors} "
            f"and {reranked}"
        )
    if not queries:
        raise UsageError(
            "anncur estimates scores from those of other queries, and there are none: give data with a training split, "
            "or the texts of some queries as the option queries"
        )
    kept = generator.choice(len(queries), min(anchor_queries, len(queries)), replace=False)
    texts = list(dict.fromkeys(text for each in lists for text in each.texts))
    place = {text: i for i, text in enumerate(texts)}
    index = _score_all(ranker, [queries[i] for i in sorted(kept)], texts)
    spent = index.size
    for each in lists:
        if not each.texts:
            yield Ordered(Standing(()))
            continue
        columns = index[:, [place[text] for text in each.texts]]
        own = CurIndex(
            columns, generator.choice(len(each.texts), min(anchors, len(each.texts)), replace=False).tolist()
        )

        def score(items: Sequence[int], given: CandidateList = each) -> np.ndarray:
            return _score_all(ranker, [given.query], [given.texts[i] for i in items])[0]

        found = own.search(score, reranked)
        exact = set(found.order)
        rest = [int(i) for i in np.argsort(-found.estimates, kind="stable") if int(i) not in exact]
        yield Ordered(Standing([*found.order, *rest]), Usage(calls=spent + found.calls))
        spent = 0


def _score_all(ranker: Ranker, queries: Sequence[str], texts: Sequence[str]) -> np.ndarray:
    """Return the ranker's scores of every text for every query, float64 [queries, texts]."""
    grid = np.indices((len(queries), len(texts))).reshape(2, -1).T.astype(np.int64)
    return np.asarray(ranker.score_pairs(queries, texts, grid), np.float64).reshape(len(queries), len(texts))
