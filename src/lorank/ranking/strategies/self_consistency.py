"""Permutation self-consistency: one list shown in many shuffled orders, and the order nearest to all the answers.

The answers r_1..r_m are aggregated to the order that has the least total Kendall distance to them,
argmin_r sum_i d(r, r_i), which cancels a judge's position bias. Calls: m, in one round.

Paper: Tang et al., Found in the Middle: Permutation Self-Consistency Improves Listwise Ranking in Large Language
Models, 2024.

*Deviations*: the paper solves for the nearest order exactly; here Borda's order is improved by moving single
documents until no move helps, or stands as it is where there are more than 2,000 documents.
"""

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.judges import Session
from lorank.ranking.strategies.registry import Standing, register_strategy

LARGEST_SEARCHED = 2000
"""Documents whose table of pairs, and its search, are still quick."""


@register_strategy(
    "permutation-self-consistency",
    title="Found in the Middle: Permutation Self-Consistency Improves Listwise Ranking in Large Language Models",
    aliases=("psc",),
    published=False,
)
def permutation_self_consistency(
    session: Session, top: int, generator: np.random.Generator, *, shuffles: int = 20
) -> Standing:
    """Order by ``shuffles`` listwise questions over the whole list, each in a random order.

    Args:
        session: The questions to the judge about one query's documents, with its cache and its budget.
        top: It is not used; the whole list is ordered.
        generator: The source of the random orders.
        shuffles: The number of questions, 1 or more.

    Raises:
        UsageError: If ``shuffles`` is below 1.
    """
    if shuffles < 1:
        raise UsageError(f"shuffles must be 1 or above, got {shuffles}")
    shown = [generator.permutation(session.count).tolist() for _ in range(shuffles)]
    if session.count < 2:
        return Standing(range(session.count))
    return Standing(nearest_order(session.orders_within_budget(shown) or [list(range(session.count))]))


def nearest_order(orders: list[list[int]]) -> list[int]:
    """Return an order that no move of a single document brings nearer to ``orders`` in total Kendall distance.

    >>> nearest_order([[0, 1, 2], [0, 2, 1], [1, 0, 2]])
    [0, 1, 2]
    """
    count = len(orders[0])
    ranks = np.empty((len(orders), count))
    for rank, order in zip(ranks, orders):
        rank[order] = np.arange(count)
    if count > LARGEST_SEARCHED:
        return np.argsort(ranks.sum(axis=0), kind="stable").tolist()
    gain = np.zeros((count, count))
    for rank in ranks:
        gain += np.sign(rank[None, :] - rank[:, None])
    order = np.argsort(ranks.sum(axis=0), kind="stable").tolist()
    improved = True
    while improved:
        improved = False
        for d in list(order):
            place = order.index(d)
            others = order[:place] + order[place + 1 :]
            value = np.concatenate([[0.0], np.cumsum(-gain[d, others])])
            best = int(np.argmax(value))
            if value[best] > value[place] + 0.5:
                order = [*others[:best], d, *others[best:]]
                improved = True
    return order
