r"""Probabilistic interleaving: each place is drawn from a softmax of ranks of one of the rankers, chosen by a coin.

    P(d | ranking) = r(d)^{-\tau} / \sum_{d' left} r(d')^{-\tau},   \tau = 3,
    credit = P(first | d, list above) - P(second | d, list above),

the assignment summed out, so that a click is worth what it says of either ranker.

Paper: K. Hofmann, S. Whiteson and M. de Rijke, A Probabilistic Method for Inferring Preferences from Clicks, CIKM 2011.
"""

from collections.abc import Sequence

import numpy as np

from lorank.ranking.clicks.core.interleave import Interleaved, interleaving

TAU = 3.0


@interleaving("probabilistic", title="A Probabilistic Method for Inferring Preferences from Clicks")
def probabilistic(first: Sequence[str], second: Sequence[str], length: int, rng: np.random.Generator) -> Interleaved:
    """Return a list with credits between -1 and 1."""
    pool = list(dict.fromkeys([*first, *second]))
    weights = np.array([[_weight(ranking, d) for d in pool] for ranking in (first, second)])
    left = np.ones(len(pool), bool)
    documents: list[str] = []
    credit: list[float] = []
    while len(documents) < length and left.any():
        chances = weights * left
        chances = chances / np.maximum(chances.sum(1, keepdims=True), 1e-300)
        turn = int(rng.integers(2))
        own = chances[turn] if chances[turn].sum() > 0 else chances[1 - turn]
        at = int(rng.choice(len(pool), p=own / own.sum()))
        both = chances[:, at]
        documents.append(pool[at])
        credit.append(float((both[0] - both[1]) / both.sum()))
        left[at] = False
    return Interleaved(documents, credit)


def _weight(ranking: Sequence[str], document: str) -> float:
    """Return rank^-tau; a document that the ranking lacks stands one below its end."""
    rank = ranking.index(document) + 1 if document in ranking else len(ranking) + 1
    return float(rank**-TAU)
