r"""Optimised interleaving: lists are drawn by chances that make a user who clicks without reading prefer neither
ranker.

The lists are all that take at each place the next document of either ranking. A click on d is worth

    credit(d) = 1 / rank_1(d) - 1 / rank_2(d)                 (inverse rank; a missing document stands below the end)

The chances p_L solve the linear programme

    \sum_L p_L = 1,   \sum_L p_L \sum_{i \le k} credit(L_i) = 0 for each k,   p \ge 0,

of which the solution that maximises the expected squared credit is taken, so that lists tell the rankers apart.

Paper: F. Radlinski and N. Craswell, Optimized Interleaving for Online Retrieval Evaluation, WSDM 2013.

*Deviations*: sensitivity is the sum of squared credits rather than the paper's entropy; where no chances satisfy all
equations, their least absolute violation is taken.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy.optimize import linprog

from lorank.ranking.clicks.core.interleave import Interleaved, interleaving

MOST_LISTS = 4096


@interleaving("optimised", title="Optimized Interleaving for Online Retrieval Evaluation")
def optimised(first: Sequence[str], second: Sequence[str], length: int, rng: np.random.Generator) -> Interleaved:
    """Return a list drawn by the optimal chances."""
    lists, chances, credits = _solve(tuple(first), tuple(second), length)
    documents = list(lists[int(rng.choice(len(lists), p=chances))])
    return Interleaved(documents, [credits[d] for d in documents])


@lru_cache(maxsize=4096)
def _solve(
    first: tuple[str, ...], second: tuple[str, ...], length: int
) -> tuple[list[tuple[str, ...]], np.ndarray, dict[str, float]]:
    lists = allowed(first, second, length)
    credits = {d: 1 / _rank(first, d) - 1 / _rank(second, d) for each in lists for d in each}
    table = np.array([np.cumsum([credits[d] for d in each]) for each in lists]).T  # [length, lists]
    size, rows = len(lists), len(table)
    use = -np.array([sum(credits[d] ** 2 for d in each) for each in lists])
    cost = np.concatenate([use, np.full(2 * rows, 1e3)])
    slack = np.eye(rows)
    equal = np.vstack([np.hstack([table, slack, -slack]), np.concatenate([np.ones(size), np.zeros(2 * rows)])])
    found = linprog(cost, A_eq=equal, b_eq=[*np.zeros(rows), 1.0], bounds=(0, None), method="highs")
    chances = np.clip(found.x[:size], 0, None)
    return lists, chances / chances.sum(), credits


def allowed(first: Sequence[str], second: Sequence[str], length: int) -> list[tuple[str, ...]]:
    """Return the lists that take the next document of either ranking at each place, at most ``MOST_LISTS``.

    >>> allowed("ab", "ba", 2)
    [('a', 'b'), ('b', 'a')]
    """
    lists: list[tuple[str, ...]] = [()]
    for _ in range(length):
        longer: dict[tuple[str, ...], None] = {}
        for each in lists:
            nexts = [next((d for d in ranking if d not in each), None) for ranking in (first, second)]
            for document in nexts:
                if document is not None:
                    longer[(*each, document)] = None
        if not longer:
            break
        lists = list(longer)[:MOST_LISTS]
    return lists


def _rank(ranking: Sequence[str], document: str) -> int:
    return ranking.index(document) + 1 if document in ranking else len(ranking) + 1
