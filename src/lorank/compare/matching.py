"""Rows of one size: the rank at which a method trains as many values as the row that it is matched to.

Methods have unlike numbers of values per rank; a comparison at one rank compares sizes. The rank is that whose number
of trained values is nearest to the reference's, from 1 to ``LARGEST``. Rows that train whole weights keep their size:
a compression's follows from its own options, and the rank of a projected optimizer is no number of trained values.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import cast

from lorank.compare.experiment import Experiment, Row
from lorank.compare.shared_work import SharedWork
from lorank.lowrank import statistics_needed
from lorank.ranking.scorers.ranker import TrainableRanker
from lorank.training.hooks.compressing import NONE, make_compressing
from lorank.training.open_recipe import open_recipe_base
from lorank.training.plan import resolve_recipe
from lorank.training.projecting import settle_adapter
from lorank.training.recipe import RecipeFile
from lorank.training.weights import WHOLE, make_weights, new_modules

LARGEST = 512
LOOKS = 8


def match_ranks(experiment: Experiment, shared: SharedWork) -> Experiment:
    """Return the experiment with ranks at which its rows train as many values as their reference.

    Args:
        experiment: The experiment; one that is not matched in trained values comes back as it is.
        shared: The collections.
    """
    if experiment.match != "trained_parameters":
        return experiment
    known: dict[str, int] = {}

    def count(row: Row, rank: int | None) -> int:
        recipe = replace(row.recipe, adapter=replace(row.recipe.adapter, rank=rank))
        key = str((recipe.base, recipe.kind, recipe.adapter))
        if key not in known:
            known[key] = count_trained(recipe, shared)
        return known[key]

    rows = []
    for row in experiment.rows:
        reference = experiment.reference(row.data)
        if reference is None or row == reference or not has_rank(row):
            rows.append(row)
            continue
        goal = count(reference, reference.recipe.adapter.rank)
        rank = nearest_rank(lambda rank, row=row: count(row, rank), goal, reference.recipe.adapter.rank or 8)  # type: ignore[misc]
        adapter = replace(row.recipe.adapter, rank=rank)
        rows.append(replace(row, recipe=replace(row.recipe, adapter=adapter)))
    return replace(experiment, rows=tuple(rows))


def has_rank(row: Row) -> bool:
    """Return whether a row trains an adapter with a rank that could be another."""
    if row.external is not None or row.recipe.compress.name != NONE:
        return False
    return settle_adapter(row.recipe).adapter.name not in WHOLE


def count_trained(recipe: RecipeFile, shared: SharedWork) -> int:
    """Return how many values a recipe trains."""
    data = shared.load(recipe)
    ranker = cast(TrainableRanker, open_recipe_base(recipe, data))
    settled = resolve_recipe(ranker, data, recipe)[0]
    adapter = settled.adapter
    if adapter.name not in WHOLE and statistics_needed(adapter.name, adapter.start):
        adapter = replace(adapter, start="zero")
    make_compressing(settled.compress, ranker.module, new_modules(ranker), settled.seed)
    weights = make_weights(ranker, adapter, recipe.seed, None, None, None, recipe.start.options)
    return sum(p.numel() for group in weights.parameter_groups() for p in group["params"])


def nearest_rank(count: Callable[[int], int], goal: int, rank: int) -> int:
    """Return the rank whose count is nearest to ``goal``, the smaller of equals.

    The count may fall as the rank rises, as that of RandLoRA does. A step goes where a count in proportion to the rank
    would meet the goal; the neighbours of the best are looked at last.

    Args:
        count: The number of trained values at a rank.
        goal: The number that is aimed at.
        rank: The rank to begin with, 1 or more.

    >>> nearest_rank(lambda rank: 100 * rank, 840, 4), nearest_rank(lambda rank: 1000 // rank, 50, 4)
    (8, 20)
    """
    tried: dict[int, int] = {}
    falls = count(2 * rank) < count(rank)
    while rank not in tried and len(tried) < LOOKS:
        tried[rank] = count(rank)
        share = goal / max(tried[rank], 1)
        rank = _within(rank / share if falls else rank * share)
    best = _best(tried, goal)
    for neighbour in (best - 1, best + 1):
        if 1 <= neighbour <= LARGEST and neighbour not in tried:
            tried[neighbour] = count(neighbour)
    return _best(tried, goal)


def _within(rank: float) -> int:
    return int(min(max(round(rank), 1), LARGEST))


def _best(tried: dict[int, int], goal: int) -> int:
    return min(tried, key=lambda rank: (abs(tried[rank] - goal), rank))
