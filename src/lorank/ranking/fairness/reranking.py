r"""Constrained reranking: the best order in which no prefix holds too few of any group, and what it costs.

In each of the first k places a group g has \lfloor p_g k \rfloor items at least. From the top, a group that would fall
below its floor at this place gives its best item; else the best item of all is taken. The price is what nDCG loses:

    price = nDCG(order by score) - nDCG(constrained order)

by the grades where there are some, else by the scores themselves as gains.

Paper: S. Geyik, S. Ambler and K. Kenthapadi, Fairness-Aware Ranking in Search & Recommendation Systems, KDD 2019
(DetGreedy); M. Zehlike et al., FA*IR, CIKM 2017.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lorank.errors import UsageError

ROUNDING = 1e-9


@dataclass(frozen=True)
class FairRanking:
    """The constrained order, places into what was given, and the nDCG before and after."""

    order: tuple[int, ...]
    before: float
    after: float

    @property
    def price(self) -> float:
        """What nDCG lost."""
        return self.before - self.after


def rerank_fairly(
    scores: Sequence[float] | np.ndarray,
    groups: Sequence[str],
    shares: Mapping[str, float] | None = None,
    *,
    gains: Sequence[float] | np.ndarray | None = None,
    depth: int | None = None,
) -> FairRanking:
    """Return the order by score in which each prefix holds at least its share of every group.

    Args:
        scores: The score of each item, [n].
        groups: The group of each item, [n].
        shares: The least share of each group, which add up to 1 at most; None takes the shares among the items.
        gains: What each item is worth, [n], 0 or above; None takes the scores above their least.
        depth: How many places of nDCG count; None counts all.

    Raises:
        UsageError: For lengths that differ, shares out of their range, and groups without an item.

    >>> fair = rerank_fairly([4.0, 3.0, 2.0, 1.0], ["a", "a", "b", "b"])
    >>> fair.order, round(fair.price, 4)
    ((0, 2, 1, 3), 0.0275)
    """
    values = np.asarray(scores, np.float64)
    if len(values) != len(groups) or not len(values):
        raise UsageError(f"{len(values)} scores and {len(groups)} groups; give one of each per item")
    least = _shares(groups, shares)
    by_score = [int(i) for i in np.argsort(-values, kind="stable")]
    pending = {group: [i for i in by_score if groups[i] == group] for group in dict.fromkeys(groups)}
    order: list[int] = []
    taken = dict.fromkeys(pending, 0)
    for place in range(1, len(values) + 1):
        short = [g for g, row in pending.items() if row and taken[g] < math.floor(least[g] * place + ROUNDING)]
        open_groups = short or [g for g, row in pending.items() if row]
        chosen = min(open_groups, key=lambda g: (-values[pending[g][0]], pending[g][0]))
        order.append(pending[chosen].pop(0))
        taken[chosen] += 1
    worth = values - values.min() if gains is None else np.asarray(gains, np.float64)
    return FairRanking(tuple(order), _ndcg(worth[by_score], depth), _ndcg(worth[order], depth))


def _shares(groups: Sequence[str], shares: Mapping[str, float] | None) -> dict[str, float]:
    known = list(dict.fromkeys(groups))
    if shares is None:
        return {group: groups.count(group) / len(groups) for group in known}
    strange = [group for group in shares if group not in known]
    if strange:
        raise UsageError(f"no item is of group {strange[0]!r}; there are: {', '.join(known)}")
    if min(shares.values(), default=0.0) < 0 or sum(shares.values()) > 1 + ROUNDING:
        raise UsageError("the least shares are 0 or above and add up to 1 at most")
    return {group: float(shares.get(group, 0.0)) for group in known}


def _ndcg(gains: np.ndarray, depth: int | None) -> float:
    discounts = 1 / np.log2(np.arange(2, len(gains) + 2))[:depth]
    best = float(np.sort(gains)[::-1][:depth] @ discounts)
    return float(gains[:depth] @ discounts) / best if best > 0 else 1.0
