"""Run an experiment: check it, run the trials that its ledger lacks, then judge, and write the page and its tables."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from lorank.compare.checks import check_bases, check_collections, check_rows
from lorank.compare.collect import collect_result
from lorank.compare.driving import drive
from lorank.compare.engines import Engine, InProcessEngine, ProcessEngine
from lorank.compare.experiment import Experiment
from lorank.compare.experiment_file import read_experiment
from lorank.compare.ledger import LEDGER, Ledger
from lorank.compare.matching import match_ranks
from lorank.compare.plans import RowPlan
from lorank.compare.records import to_records
from lorank.compare.report import summary, write_comparison
from lorank.compare.results import ExperimentResult
from lorank.compare.schedule import next_trials, plan_rows
from lorank.compare.selection import select_rows
from lorank.compare.shared_work import SharedWork
from lorank.compare.state import State, state_of
from lorank.compare.trial import Trial
from lorank.errors import UsageError, unknown_name
from lorank.progress import StageCallback

ENGINES = ("local", "ray")

StateCallback = Callable[[State], None]


@dataclass(frozen=True)
class ComparisonResult:
    """What an experiment found.

    Attributes:
        result: The rows with their judged trials.
        folder: The experiment's folder: the ledger, the page index.html, and the tables.
        page: The path of the page.
        notes: What is to be said of it: rows that failed, a baseline without a result.
    """

    result: ExperimentResult
    folder: Path
    page: Path
    notes: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether every row has a result."""
        return not any(row.failed for row in self.result.rows)

    def summary(self, width: int | None = 80) -> str:
        """Return the comparison as Markdown for ``width`` columns; with None tables are as wide as it takes."""
        return summary(self.result, width)

    def records(self) -> list[dict[str, Any]]:
        """Return one record for each collection, row and measure (`lorank.compare.records.to_records`)."""
        return to_records(self.result)

    def trials(self) -> list[dict[str, Any]]:
        """Return one record for each collection, row, measure and seed, with the mean over test queries."""
        return [
            {
                "collection": row.data,
                "row": row.name,
                "measure": measure,
                "seed": trial.seed,
                "dev": trial.dev.get(measure),
                "test": fmean(trial.test[measure].values()),
                **row.settings,
                **trial.cost,
            }
            for row in self.result.rows
            for trial in row.trials
            for measure in self.result.measures
        ]

    def to_json(self) -> str:
        """Return the records as JSON text."""
        return json.dumps(self.records(), indent=1, ensure_ascii=False)

    def frame(self) -> Any:
        """Return the records as a pandas frame; as a list of dictionaries where pandas is not installed."""
        try:
            import pandas
        except ImportError:
            return self.records()
        return pandas.DataFrame(self.records())


def run_experiment(
    source: str | Path | Mapping[str, Any] | Experiment,
    out: str | Path | None = None,
    *,
    workers: int = 1,
    engine: str = "local",
    address: str | None = None,
    overwrite: bool = False,
    retry: bool = False,
    rows: Sequence[str] = (),
    settings: Mapping[str, Any] = {},
    command: str | None = None,
    rerun: str | None = None,
    on_progress: StageCallback = lambda what, done, total: None,
    on_state: StateCallback = lambda state: None,
) -> ComparisonResult:
    """Run what an experiment lacks, and write its page; the same call goes on where an earlier one was stopped.

    Args:
        source: An experiment file, a mapping with the keys of one, or an experiment.
        out: The folder of the ledger, the page and the tables; None is runs/ and the name of the file.
        workers: How many trials run at once, 1 or more; each worker is a process pinned to its share of the cores.
        engine: "local", or "ray" for a cluster.
        address: The address of the cluster; None starts one on this machine.
        overwrite: True starts anew.
        retry: True runs trials again that failed before.
        rows: The names of the rows that are run and compared; none takes all.
        settings: Keys that are set in place of the file's, as section.key; an experiment that is read takes none.
        command: The command line, for the record.
        rerun: The command without what says where and how it runs, of which each row's own command is made.
        on_progress: It receives stages, and messages with a total of 0.
        on_state: It receives where the experiment stands, whenever a trial begins or ends.

    Raises:
        UsageError: For an experiment that cannot run, before anything runs.
    """
    place = str(source) if isinstance(source, str | Path) else "the experiment"
    experiment = source if isinstance(source, Experiment) else read_experiment(source, settings)
    experiment = select_rows(experiment, rows, references=True)
    folder = (
        Path("runs") / (Path(source).stem if isinstance(source, str | Path) else "experiment")
        if out is None
        else Path(out)
    )
    shared = check_experiment(experiment, place, folder, on_progress)
    if overwrite:
        for name in ("shared", "runs"):
            shutil.rmtree(folder / name, ignore_errors=True)
        (folder / LEDGER).unlink(missing_ok=True)
    prints = {row.data: shared.fingerprint(row.recipe) for row in experiment.rows}
    with Ledger(folder / LEDGER, prints) as ledger:
        if retry:
            ledger.forget_failures()
        experiment = match_ranks(experiment, shared)
        if experiment.match == "trained_parameters":
            experiment = select_rows(experiment, rows)
        plans: list[RowPlan] = []

        def pending() -> Iterator[Trial]:
            plans[:] = plan_rows(experiment, ledger.lines)
            return next_trials(plans)

        def on_change(running: Mapping[str, Trial]) -> None:
            on_state(state_of(experiment, plans, ledger.lines, running, workers))

        drive(ledger, make_engine(engine, workers, address, shared, folder, on_progress), pending, on_change)
        result = collect_result(experiment, ledger.lines, shared, folder, command, rerun)
    return _report(result, folder)


def check_experiment(
    experiment: Experiment, place: str, folder: Path, on_progress: StageCallback = lambda what, done, total: None
) -> SharedWork:
    """Return the experiment's collections, read, once everything that can be checked before a run is checked.

    Args:
        experiment: The experiment.
        place: The experiment file, for messages.
        folder: The experiment's folder.
        on_progress: It receives stages.

    Raises:
        UsageError: For the first thing that is wrong.
    """
    check_rows(experiment, place)
    shared = SharedWork(folder, on_progress)
    collections = {row.data: shared.load(row.recipe) for row in experiment.rows}
    check_collections(experiment, collections, place)
    check_bases(experiment, collections, place)
    return shared


def make_engine(
    engine: str, workers: int, address: str | None, shared: SharedWork, folder: Path, on_progress: StageCallback
) -> Engine:
    """Return what runs trials.

    Args:
        engine: "local" or "ray".
        workers: How many trials run at once, 1 or more.
        address: The address of a Ray cluster; None starts one on this machine.
        shared: What trials in this process share.
        folder: The experiment's folder.
        on_progress: It receives the stages of trials in this process.

    Raises:
        UsageError: For an unknown engine, fewer than one worker, and Ray where it is not installed.
    """
    if engine not in ENGINES:
        raise unknown_name("--engine", engine, ENGINES)
    if workers < 1:
        raise UsageError(f"--workers {workers}: give 1 or more")
    if engine == "ray":
        from lorank.compare.ray_engine import RayEngine

        return RayEngine(folder, workers, address=address)
    if address is not None:
        raise UsageError("--address is that of a Ray cluster; add --engine ray, or leave it out")
    return InProcessEngine(shared, folder, on_progress) if workers == 1 else ProcessEngine(folder, workers)


def _report(result: ExperimentResult, folder: Path) -> ComparisonResult:
    """Write the page; a baseline without a result leaves the comparison with it out."""
    notes = [f"{row.name} on {row.data} has no result: {row.failed}" for row in result.rows if row.failed]
    lost = [row.data for row in result.rows if row.failed and row.name == result.baseline]
    if lost:
        notes.append(
            f"the baseline {result.baseline} has no result on {', '.join(lost)}: nothing is compared with it there"
        )
    page = write_comparison(result, folder)
    return ComparisonResult(result, folder, page, tuple(notes))
