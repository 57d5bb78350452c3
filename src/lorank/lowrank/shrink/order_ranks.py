r"""Ranks chosen to keep the order: a layer gets the ranks that the order of documents needs, not those of its weights.

    d_l(r)     loss of order with layer l at rank r and every other layer as it is        (measured)
    minimise   sum_l d_l(r_l)   over  r_l in a grid of ranks,   sum_l size_l(r_l) <= budget     (a knapsack)

The loss comes from whoever knows what the model ranks (`lorank shrink`: 1 - Kendall's tau and 1 - nDCG to the order of
the original, on queries without judgments). Between the measured shares a layer's loss is interpolated, and made to
fall with the rank. The sum is only an estimate, as errors of layers meet, so that it is measured again together with
the uniform ranks and those by energy: the one that loses least order wins. On the calibration queries the result is
never worse than uniform ranks.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lorank.errors import UsageError
from lorank.layers.factored_linear import break_even
from lorank.lowrank.shrink.core.ranks import RankProblem, Ranks, choose_by_energy, choose_uniform, rank_policy

MEASURED = (0.08, 0.2, 0.4, 0.7)
"""The shares of a layer's weights at which the loss of order is measured; a dense layer loses 0."""
CELLS = 2000
"""Into how many parts the knapsack divides the budget."""
STEPS = 24
"""How many ranks the knapsack may choose from, per layer."""


@dataclass(frozen=True)
class Choices:
    """What the knapsack may choose for a layer: ranks (None is dense), their sizes and what each loses."""

    ranks: tuple[int | None, ...]
    sizes: tuple[int, ...]
    losses: tuple[float, ...]


@rank_policy("order")
def choose_by_order(problem: RankProblem) -> Ranks:
    """Return the ranks that lose the least order within the budget, as measured.

    Raises:
        UsageError: Where no loss of order was given.
    """
    if problem.loss is None:
        raise UsageError("ranks='order' measures the order that a model keeps; give order_loss")
    knapsack = solve_knapsack({path: measure_layer(problem, path) for path in problem.shapes}, problem.budget)
    candidates = [knapsack, choose_uniform(problem), choose_by_energy(problem)]
    losses = [problem.loss(ranks) for ranks in candidates]
    return candidates[int(np.argmin(losses))]


def measure_layer(problem: RankProblem, path: str) -> Choices:
    """Return what a layer loses at ranks between 1 and its break-even, measured at ``MEASURED`` and interpolated.

    Args:
        problem: The problem, with its loss.
        path: The layer.
    """
    assert problem.loss is not None
    rows, columns = problem.shapes[path]
    most = break_even(rows, columns)
    at = sorted({max(1, round(share * most)) for share in MEASURED})
    losses = [problem.loss({path: rank}) for rank in at]
    losses = np.maximum.accumulate(losses[::-1])[::-1].tolist()
    ranks = sorted({max(1, round(each)) for each in np.linspace(1, most, STEPS)})
    found = np.interp(ranks, [*at, most + 1], [*losses, 0.0])
    below = np.array(ranks) < at[0]
    found[below] = losses[0] * at[0] / np.array(ranks)[below]
    sizes = (*(problem.size(path, rank) for rank in ranks), rows * columns)
    return Choices((*ranks, None), sizes, (*found.tolist(), 0.0))


def solve_knapsack(choices: Mapping[str, Choices], budget: int) -> Ranks:
    """Return the choices that lose least in sum with sizes of at most ``budget``, by dynamic programming.

    Sizes are rounded up to parts of the budget, so that the budget is kept.

    Args:
        choices: What may be chosen, by layer; the smallest sizes fit the budget together.
        budget: The most weights of all layers.

    >>> one = Choices((1, 2), (10, 20), (5.0, 0.0)); other = Choices((1, 2), (10, 20), (1.0, 0.0))
    >>> solve_knapsack({"a": one, "b": other}, 30)
    {'a': 2, 'b': 1}
    """
    cells = min(CELLS, budget)
    cell = budget / cells
    best = np.zeros(cells + 1)
    taken = []
    for each in choices.values():
        costs = [int(np.ceil(size / cell - 1e-9)) for size in each.sizes]
        table = np.full((len(costs), cells + 1), np.inf)
        for row, (cost, loss) in enumerate(zip(costs, each.losses, strict=True)):
            if cost <= cells:
                table[row, cost:] = best[: cells + 1 - cost] + loss
        taken.append((table.argmin(0), costs))
        best = table.min(0)
    if not np.isfinite(best[-1]):
        raise UsageError("the budget is below the smallest choice of every layer; write a higher ratio")
    left, ranks = cells, {}
    for (path, each), (rows, costs) in zip(reversed(list(choices.items())), reversed(taken), strict=True):
        row = int(rows[left])
        ranks[path], left = each.ranks[row], left - costs[row]
    return {path: ranks[path] for path in choices}
