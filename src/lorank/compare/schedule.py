"""Which trials are next: everything follows from the experiment and the trials that ended, so a killed run goes on.

A row without a sweep has one trial for each seed (and fold). A swept row first tries its values at one seed; where the
best is the outermost, a value beyond it follows; the other seeds run at the value that dev chose. So do those
of a row that draws its configurations (`lorank.compare.search_plan`). Rows that are matched in minutes or tokens wait
for the row that they are matched to.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest
from statistics import fmean

from lorank.compare.experiment import Experiment, Row
from lorank.compare.ledger import Lines
from lorank.compare.plans import RowPlan, SeedPlan, unended, value_on_dev
from lorank.compare.search_plan import plan_search
from lorank.compare.trial import Trial, trials_of
from lorank.training.recipe import RecipeFile, override

SPENT = {"minutes": ("train_seconds", 60, 4), "tokens": ("trained_tokens", 1, None)}
"""What rows are given as much of as the baseline took: the cost, its size in the setting's unit, and digits."""


def plan_rows(experiment: Experiment, lines: Lines) -> list[RowPlan]:
    """Return the plan of every row, as far as the trials that ended tell it."""
    return [plan_row(experiment, row, lines) for row in experiment.rows]


def next_trials(plans: Sequence[RowPlan]) -> Iterator[Trial]:
    """Yield the trials that can run now, each once: the first of every row, then the second, and so on."""
    seen: set[str] = set()
    for turn in zip_longest(*(plan.pending for plan in plans)):
        for trial in turn:
            if trial is not None and trial.key not in seen:
                seen.add(trial.key)
                yield trial


def plan_row(experiment: Experiment, row: Row, lines: Lines) -> RowPlan:
    """Return what a row needs."""
    recipe = row.recipe
    if experiment.match in SPENT and row.external is None:
        reference = experiment.reference(row.data)
        if reference is not None and reference != row:
            spent = spent_by(experiment, reference, lines)
            if spent is None:
                failed = plan_row(experiment, reference, lines)
                return RowPlan(row, (), blocked=bool(failed.pending) or failed.blocked)
            recipe = override(recipe, {f"training.{experiment.match}": spent})
            recipe = replace(recipe, training=replace(recipe.training, steps=None))
    if row.search is not None:
        return RowPlan(row, plan_search(experiment, row, recipe, lines))
    seeds: list[SeedPlan] = []
    chosen: float | None = None
    for seed in row.seeds:
        if row.sweep is None or (row.sweep.per == "method" and seeds):
            if row.sweep is not None and chosen is None:
                more = len(trials_of(experiment, row, seed, row.sweep.values[0], recipe))
                seeds.append(SeedPlan(seed, planned=more))
                continue
            seeds.append(_plan_fixed(experiment, row, seed, chosen, recipe, lines))
        else:
            plan = _plan_sweep(experiment, row, seed, recipe, lines)
            seeds.append(plan)
            chosen = plan.value
    if row.sweep is not None and chosen is None and not any(plan.pending for plan in seeds):
        seeds = [replace(plan, planned=len(plan.swept)) for plan in seeds[:1]]
    return RowPlan(row, seeds)


def spent_by(experiment: Experiment, row: Row, lines: Lines) -> float | None:
    """Return the minutes, or the tokens, that the first seed of a row trained for, as the experiment matches them.

    It is the mean of the row's folds; None while they have not ended, and where they failed.
    """
    cost, unit, digits = SPENT[str(experiment.match)]
    plan = plan_row(replace(experiment, match=None), row, lines)
    if not plan.seeds or not plan.seeds[0].trials or plan.seeds[0].pending:
        return None
    results = [lines[trial.key].get("result") for trial in plan.seeds[0].trials]
    spent = [result["cost"][cost] for result in results if result is not None and cost in result["cost"]]
    return round(fmean(spent) / unit, digits) if spent else None


def _plan_fixed(
    experiment: Experiment, row: Row, seed: int, value: float | None, recipe: RecipeFile, lines: Lines
) -> SeedPlan:
    trials = trials_of(experiment, row, seed, value, recipe)
    return SeedPlan(seed, trials, value, (), unended(trials, lines), len(trials))


def _plan_sweep(experiment: Experiment, row: Row, seed: int, recipe: RecipeFile, lines: Lines) -> SeedPlan:
    """Return the plan of a seed that tries values: what is tried, and what was chosen once all of them have ended."""
    sweep = row.sweep
    assert sweep is not None
    tried = list(sweep.values)
    while True:
        trials = {value: trials_of(experiment, row, seed, value, recipe) for value in tried}
        pending = [trial for each in trials.values() for trial in unended(each, lines)]
        planned = sum(map(len, trials.values()))
        dev = {value: value_on_dev(each, lines, experiment.measures[0]) for value, each in trials.items()}
        swept = sorted((value, found) for value, found in dev.items() if found is not None)
        if pending or not swept:
            return SeedPlan(seed, (), None, swept, pending, planned)
        best = max(swept, key=lambda point: point[1])[0]
        further = sweep.beyond(tried, best)
        if further is None or len(tried) - len(sweep.values) >= sweep.edges or not _legal(row, sweep.key, further):
            every = [trial for each in trials.values() for trial in each]
            return SeedPlan(seed, trials[best], best, swept, (), planned, tried=every)
        tried.append(further)


def _legal(row: Row, key: str, value: float) -> bool:
    """Return whether a value beyond an edge is one that its key takes."""
    from lorank.errors import LorankError
    from lorank.training.ranges import check_ranges

    try:
        check_ranges(override(row.recipe, {key: value}))
    except LorankError:
        return False
    return True
