"""The plan of a row that draws its configurations: all at the first seed, then the chosen ones at the other seeds."""

from collections.abc import Sequence

from lorank.compare.experiment import Experiment, Row
from lorank.compare.ledger import Lines
from lorank.compare.plans import SeedPlan, unended, value_on_dev
from lorank.compare.trial import Trial, trials_of
from lorank.training.recipe import RecipeFile, override


def plan_search(experiment: Experiment, row: Row, recipe: RecipeFile, lines: Lines) -> list[SeedPlan]:
    """Return the plan of every seed of a row that draws.

    Args:
        experiment: The experiment.
        row: The row, which has a search.
        recipe: Its recipe, which may have been matched to another row's.
        lines: The ledger's lines.
    """
    assert row.search is not None
    drawn, first = row.search.configurations(), row.seeds[0]

    def trials(seed: int, configuration: int) -> list[Trial]:
        return trials_of(experiment, row, seed, None, override(recipe, drawn[configuration]))

    tried = [trials(first, configuration) for configuration in range(len(drawn))]
    every = [trial for each in tried for trial in each]
    if pending := unended(every, lines):
        later = [SeedPlan(seed, planned=len(tried[0])) for seed in row.seeds[1:]]
        return [SeedPlan(first, pending=pending, planned=len(every), tried=every), *later]
    measure, folds = experiment.measures[0], range(len(tried[0]))
    if row.search.settings.per == "fold":
        best = [_best([value_on_dev([each[fold]], lines, measure) for each in tried]) for fold in folds]
    else:
        best = [_best([value_on_dev(each, lines, measure) for each in tried])] * len(folds)
    chosen = [configuration for configuration in best if configuration is not None]
    if len(chosen) < len(folds):
        return [SeedPlan(first, planned=len(every), tried=every)]
    plans = []
    for seed in row.seeds:
        mine = [trials(seed, configuration)[fold] for fold, configuration in zip(folds, chosen, strict=True)]
        planned = len(every) if seed == first else len(mine)
        pending = unended(mine, lines)
        configurations = [drawn[configuration] for configuration in chosen]
        plans.append(
            SeedPlan(seed, mine, pending=pending, planned=planned, drawn=configurations, tried=every * (seed == first))
        )
    return plans


def _best(dev: Sequence[float | None]) -> int | None:
    """Return the place of the best value, the first of equals; None where every configuration failed."""
    known = [place for place, value in enumerate(dev) if value is not None]
    return max(known, key=lambda place: (dev[place], -place), default=None)
