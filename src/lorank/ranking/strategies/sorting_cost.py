"""What pairwise sorting costs when inferences are counted, not comparisons.

With up to b comparisons an inference, and answers kept or not, the same sorts change places: heapsort asks the fewest
questions of the classical sorts but one after the other; quicksort asks all questions of a split together; bubble
sort asks the same questions again in each pass, which a cache answers.

Paper: Wisznia et al., Are Optimal Algorithms Still Optimal? Rethinking Sorting in LLM-Based Pairwise Ranking with
Batching and Caching, 2025.

*Deviations*: quicksort takes random pivots and leaves parts beyond the top k unsorted; a comparison is one question
(``both_orders`` doubles all counts alike).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.ranking.judges import Cache, Oracle
from lorank.ranking.strategies.reranking import rerank

SORTS = ("heapsort", "sliding", "quicksort", "all-pairs")
"""The sorts compared, as ``prp`` names them; ``sliding`` is bubble sort."""


@dataclass(frozen=True)
class SortingCost:
    """The mean cost of one sort: ``comparisons`` paid, the ``inferences`` they took, ``exact`` if the top is right."""

    sort: str
    cached: bool
    batch_size: int
    comparisons: float
    inferences: float
    exact: bool


@catalogued(
    "llm-sorting-cost",
    area="rerank",
    title="Are Optimal Algorithms Still Optimal? Rethinking Sorting in "
    "LLM-Based Pairwise Ranking with Batching and Caching",
    reach="`lorank plan --sorts`, and Python: a simulation has no recipe",
)
def sorting_costs(
    count: int = 100,
    top: int = 10,
    *,
    sorts: Sequence[str] = SORTS,
    batch_sizes: Sequence[int] = (1, 2, 8, 32),
    orders: int = 10,
    both_orders: bool = False,
    seed: int = 0,
) -> list[SortingCost]:
    """Return the cost of each sort, without and with a cache, at each batch size.

    Args:
        count: Documents.
        top: How many of them are wanted in order.
        sorts: Names of sorts in ``prp``.
        batch_sizes: Comparisons that share one inference.
        orders: Random input orders that the cost is averaged over.
        both_orders: Ask each comparison in both orders.
        seed: Of the input orders and the pivots.

    >>> [row.comparisons for row in sorting_costs(5, 5, sorts=["all-pairs"], batch_sizes=[1])]
    [10.0, 10.0]
    """
    if orders < 1:
        raise UsageError(f"orders must be 1 or above, got {orders}")
    return [
        _cost(sort, cached, size, count, top, orders, both_orders, seed)
        for sort in sorts
        for cached in (False, True)
        for size in batch_sizes
    ]


def _cost(
    sort: str, cached: bool, size: int, count: int, top: int, orders: int, both_orders: bool, seed: int
) -> SortingCost:
    generator = np.random.default_rng(seed)
    comparisons, inferences, exact = [], [], True
    for draw in range(orders):
        labels = generator.permutation(count)
        done = rerank(
            "",
            [""] * count,
            Oracle(labels),
            "prp",
            method=sort,
            both_orders=both_orders,
            top=top,
            cache=Cache() if cached else None,
            batch_size=size,
            seed=seed + draw,
        )
        comparisons.append(done.usage.calls)
        inferences.append(done.usage.batches)
        exact &= labels[list(done.order[:top])].tolist() == list(range(count - 1, count - 1 - min(top, count), -1))
    return SortingCost(sort, cached, size, float(np.mean(comparisons)), float(np.mean(inferences)), exact)
