"""Which trials are next: everything follows from the experiment and the trials that ended, so a killed run goes on.

A row without a sweep has one trial for each seed (and fold). A swept row first tries its values at one seed; where the
best is the outermost, a value beyond it follows; the other seeds run at the value that dev chose. Rows that are matched
in minutes wait for the row that they are matched to.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from statistics import fmean

from lorank.compare.experiment import Experiment, Row
from lorank.compare.ledger import Lines
from lorank.compare.trial import Trial, trials_of
from lorank.training.recipe import RecipeFile


@dataclass(frozen=True)
class SeedPlan:
    """What one seed of a row needs and has chosen.

    Attributes:
        seed: The seed.
        trials: The trials at the chosen value, one for each fold; empty while nothing is chosen.
        value: The chosen value of the swept key; None where nothing is swept, or chosen yet.
        swept: What dev said of each value that was tried.
        pending: The trials that must end before there is more to say.
        planned: How many trials the seed has in sight.
    """

    seed: int
    trials: Sequence[Trial] = ()
    value: float | None = None
    swept: Sequence[tuple[float, float]] = ()
    pending: Sequence[Trial] = ()
    planned: int = 0


@dataclass(frozen=True)
class RowPlan:
    """What a row needs: the plan of each seed; ``blocked`` while another row must end first."""

    row: Row
    seeds: Sequence[SeedPlan] = ()
    blocked: bool = False

    @property
    def pending(self) -> list[Trial]:
        """The trials that the row can run now."""
        return [trial for plan in self.seeds for trial in plan.pending]

    @property
    def planned(self) -> int:
        """How many trials the row has in sight; edges that may be followed are not among them."""
        return sum(plan.planned for plan in self.seeds)


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
    if experiment.match == "minutes" and row.external is None:
        reference = experiment.reference(row.data)
        if reference is not None and reference != row:
            minutes = minutes_of(experiment, reference, lines)
            if minutes is None:
                failed = plan_row(experiment, reference, lines)
                return RowPlan(row, (), blocked=bool(failed.pending) or failed.blocked)
            recipe = replace(recipe, training=replace(recipe.training, minutes=minutes, steps=None))
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


def minutes_of(experiment: Experiment, row: Row, lines: Lines) -> float | None:
    """Return the minutes that the first seed of a row trained for, the mean of its folds; None while it has not."""
    plan = plan_row(replace(experiment, match=None), row, lines)
    if not plan.seeds or not plan.seeds[0].trials or plan.seeds[0].pending:
        return None
    results = [lines[trial.key].get("result") for trial in plan.seeds[0].trials]
    seconds = [result["cost"]["train_seconds"] for result in results if result is not None]
    return round(fmean(seconds) / 60, 4) if seconds else None


def value_on_dev(trials: Sequence[Trial], lines: Lines, measure: str) -> float | None:
    """Return the mean over folds of a measure on dev; None where a trial has not ended, or failed."""
    values = []
    for trial in trials:
        result = lines.get(trial.key, {}).get("result")
        if result is None or measure not in result["dev"]:
            return None
        values.append(result["dev"][measure])
    return fmean(values)


def _plan_fixed(
    experiment: Experiment, row: Row, seed: int, value: float | None, recipe: RecipeFile, lines: Lines
) -> SeedPlan:
    trials = trials_of(experiment, row, seed, value, recipe)
    return SeedPlan(seed, trials, value, (), _unended(trials, lines), len(trials))


def _plan_sweep(experiment: Experiment, row: Row, seed: int, recipe: RecipeFile, lines: Lines) -> SeedPlan:
    """Return the plan of a seed that tries values: what is tried, and what was chosen once all of them have ended."""
    sweep = row.sweep
    assert sweep is not None
    tried = list(sweep.values)
    while True:
        trials = {value: trials_of(experiment, row, seed, value, recipe) for value in tried}
        pending = [trial for each in trials.values() for trial in _unended(each, lines)]
        planned = sum(map(len, trials.values()))
        dev = {value: value_on_dev(each, lines, experiment.measures[0]) for value, each in trials.items()}
        swept = sorted((value, found) for value, found in dev.items() if found is not None)
        if pending or not swept:
            return SeedPlan(seed, (), None, swept, pending, planned)
        best = max(swept, key=lambda point: point[1])[0]
        further = sweep.beyond(tried, best)
        if further is None or len(tried) - len(sweep.values) >= sweep.edges or not _legal(row, sweep.key, further):
            return SeedPlan(seed, trials[best], best, swept, (), planned)
        tried.append(further)


def _legal(row: Row, key: str, value: float) -> bool:
    """Return whether a value beyond an edge is one that its key takes."""
    from lorank.errors import LorankError
    from lorank.training.ranges import check_ranges
    from lorank.training.recipe import override

    try:
        check_ranges(override(row.recipe, {key: value}))
    except LorankError:
        return False
    return True


def _unended(trials: Sequence[Trial], lines: Lines) -> list[Trial]:
    return [trial for trial in trials if trial.key not in lines]
