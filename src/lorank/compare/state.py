"""Where an experiment stands: what each row has done and shown so far, and how long the rest will take."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from lorank.compare.experiment import Experiment
from lorank.compare.ledger import Lines
from lorank.compare.plans import RowPlan, value_on_dev
from lorank.compare.trial import Trial


@dataclass(frozen=True)
class RowState:
    """Where one row stands.

    Attributes:
        name: The row's name.
        data: Its collection, as the file names it.
        done: How many of its trials have ended.
        planned: How many it has in sight; a followed edge adds some.
        value: The value of the swept key that dev chose.
        dev: The main measure on dev, the mean of the seeds that have ended.
        test: The main measure on test, likewise.
        failed: Why a trial of it failed.
        running: How many of its trials are under way.
    """

    name: str
    data: str
    done: int
    planned: int
    value: float | None = None
    dev: float | None = None
    test: float | None = None
    failed: str | None = None
    running: int = 0


@dataclass(frozen=True)
class State:
    """Where the experiment stands; ``seconds_left`` is None while no trial has ended."""

    rows: Sequence[RowState]
    seconds_left: float | None

    @property
    def done(self) -> int:
        """How many trials have ended."""
        return sum(row.done for row in self.rows)

    @property
    def planned(self) -> int:
        """How many trials are in sight."""
        return sum(row.planned for row in self.rows)


def state_of(
    experiment: Experiment, plans: Sequence[RowPlan], lines: Lines, running: Mapping[str, Trial], workers: int
) -> State:
    """Return where the experiment stands.

    Args:
        experiment: The experiment.
        plans: The plan of every row.
        lines: The ledger's lines.
        running: The trials under way, by their keys.
        workers: How many run at once.
    """
    rows = [_row(experiment, plan, lines, running) for plan in plans]
    seconds = _mean_seconds(lines)
    left = sum(
        max(0, row.planned - row.done) * seconds.get((row.name, row.data), seconds.get(None, 0.0)) for row in rows
    )
    return State(rows, left / max(1, workers) if seconds else None)


def _row(experiment: Experiment, plan: RowPlan, lines: Lines, running: Mapping[str, Trial]) -> RowState:
    row, measure = plan.row, experiment.measures[0]
    dev, test, failed = [], [], None
    for seed in plan.seeds:
        value = value_on_dev(seed.trials, lines, measure) if seed.trials else None
        if value is not None:
            dev.append(value)
        results = [lines[trial.key].get("result") for trial in seed.trials if trial.key in lines]
        if seed.trials and len(results) == len(seed.trials) and None not in results:
            test.append(fmean([v for result in results if result for v in result["test"][measure].values()]))
        failed = failed or next((lines[t.key].get("failed") for t in seed.trials if t.key in lines), None)
    return RowState(
        row.name,
        row.data,
        plan.planned - len(plan.pending) - _later(plan),
        plan.planned,
        next((seed.value for seed in plan.seeds if seed.value is not None), None),
        fmean(dev) if dev else None,
        fmean(test) if test else None,
        failed,
        sum(trial.row == row.name and trial.data == row.data for trial in running.values()),
    )


def _later(plan: RowPlan) -> int:
    """Return how many planned trials wait for a choice, and have no settings yet."""
    return sum(seed.planned for seed in plan.seeds if not seed.pending and not seed.trials and not seed.swept)


def _mean_seconds(lines: Lines) -> dict[tuple[str, str] | None, float]:
    """Return the mean time of the trials of each row, and under None that of all."""
    found: dict[tuple[str, str] | None, list[float]] = {}
    for line in lines.values():
        if "result" in line:
            for key in ((line["row"], line["settings"]["recipe"]["data"]), None):
                found.setdefault(key, []).append(line["seconds"])
    return {key: fmean(values) for key, values in found.items()}
