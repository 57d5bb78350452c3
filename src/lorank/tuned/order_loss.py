r"""How much of an order a changed ranker loses, on lists without judgments: what ranks that keep the order minimise.

    loss = mean over queries of  (1 - tau) / 2 + (1 - nDCG@k),    gain of the original's document at place i = 1 / i

Kendall's tau counts all pairs alike and nDCG the first places; both are 0 for the original itself. The scores are the
learned part's alone.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import nn

from lorank.errors import UsageError
from lorank.rank_correlation import kendall_tau


def lost_order(original: np.ndarray, changed: np.ndarray, depth: int = 10) -> float:
    """Return how much of a list's order is lost, from 0 (none) to about 2.

    Args:
        original: The scores [n] whose order counts.
        changed: The other scores [n].
        depth: The number of first places that nDCG looks at, 1 or more.

    >>> lost_order(np.array([3.0, 2.0, 1.0]), np.array([9.0, 5.0, 1.0]))
    0.0
    >>> round(lost_order(np.array([2.0, 1.0]), np.array([1.0, 2.0])), 4)
    1.1403
    """
    gains = np.zeros(len(original))
    first = np.argsort(-original, kind="stable")[:depth]
    gains[first] = 1 / np.arange(1, len(first) + 1)
    discounts = 1 / np.log2(np.arange(2, len(first) + 2))
    reached = gains[np.argsort(-changed, kind="stable")[: len(first)]] @ discounts
    best = gains[first] @ discounts
    return (1 - kendall_tau(original, changed)) / 2 + float(1 - reached / best)


def order_loss(score: Callable[[], np.ndarray], starts: Sequence[int], depth: int = 10) -> Callable[[Any], float]:
    """Return a function that says how much of the present order is lost, whenever it is called later.

    Args:
        score: It scores the same pairs with the ranker as it is, float [n]; the pairs of a query stand together.
        starts: The first pair of each query, rising.
        depth: The number of first places that nDCG looks at.

    Raises:
        UsageError: Where no query has two pairs or more.
    """
    original = score()
    lists = [part for part in np.split(np.arange(len(original)), list(starts)[1:]) if len(part) > 1]
    if not lists:
        raise UsageError("no query has two candidates or more, so that there is no order to keep; give other queries")

    def loss(_: nn.Module) -> float:
        changed = score()
        return float(np.mean([lost_order(original[part], changed[part], depth) for part in lists]))

    return loss
