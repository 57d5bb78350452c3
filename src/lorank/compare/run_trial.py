"""One trial, run and judged: what the ledger keeps of it."""

import hashlib
import json
import os
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lorank.compare.external_trial import judge_external, mix_by_dev
from lorank.compare.ledger import Line
from lorank.compare.peak_memory import peak_bytes, reset_peak
from lorank.compare.shared_work import SharedWork
from lorank.compare.trial import Trial
from lorank.data.collection import Collection
from lorank.data.trec import write_run
from lorank.errors import LorankError, WriteError
from lorank.progress import StageCallback
from lorank.ranking.consensus.fusion import standardise_run
from lorank.ranking.metrics.measures import mean_of, per_query
from lorank.ranking.scorers.both_ways import BothWays
from lorank.ranking.scorers.ranker import TrainableRanker
from lorank.ranking.types import Qrels, Run
from lorank.training.fitting import Fitted, fit_run
from lorank.training.lists.candidates import Candidates
from lorank.training.open_recipe import open_recipe_base
from lorank.training.record import folder_bytes
from lorank.training.weights import starts_from_nothing
from lorank.tuned.mix import mix_run
from lorank.tuned.ranker import score_run

FAILURES = (
    LorankError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What ends one trial and not the experiment."""


@dataclass(frozen=True)
class Judged:
    """The runs of a trial before they are judged.

    Attributes:
        test: The run of the test queries.
        dev: Measure to value on dev.
        cost: What it cost, by name.
        curve: Points of the learning curve.
    """

    test: Run
    dev: Mapping[str, float] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)
    curve: list[tuple[int, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Ended:
    """A trial that ended: the ledger's line, and the test run, which is None where it failed."""

    line: Line
    run: Run | None = None

    def keep(self, out: Path) -> None:
        """Write the test run into the experiment's folder, where the line says that it is."""
        if self.run is None or self.line["result"]["run"] is None:
            return
        path = out / self.line["result"]["run"]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_run({query: row for query, row in self.run.items() if row}, path, self.line["row"].replace(" ", "-"))


def run_trial(
    trial: Trial, shared: SharedWork, out: Path, on_progress: StageCallback = lambda what, done, total: None
) -> Ended:
    """Return the ledger's line of a trial, with its result or why it failed, and its test run.

    Args:
        trial: The trial.
        shared: What it shares with others.
        out: The experiment's folder, which keeps what trials share and the answers of judges.
        on_progress: It receives stages.

    Raises:
        WriteError: Where the disk is full: the experiment ends then, and not the trial alone.
    """
    line: dict[str, Any] = {"row": trial.row, "settings": trial.settings}
    began = time.monotonic()
    try:
        result, run = _judge(trial, shared, out, on_progress)
    except WriteError:
        raise
    except FAILURES as error:
        seconds = round(time.monotonic() - began, 2)
        return Ended({**line, "seconds": seconds, "failed": describe_failure(error)})
    return Ended({**line, "seconds": round(time.monotonic() - began, 2), "result": result}, run)


def describe_failure(error: BaseException) -> str:
    """Return why a trial failed, in one line; what is no error of lorank's own comes with its place."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, LorankError):
        return text
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {text} ({Path(frame.filename).name}:{frame.lineno})"


def _judge(trial: Trial, shared: SharedWork, out: Path, on_progress: StageCallback) -> tuple[dict[str, Any], Run]:
    if trial.external is None:
        judged = _train(trial, shared, on_progress)
    else:
        dev, test, cost = judge_external(trial, shared, out, on_progress)
        part = shared.part(trial)
        judged = Judged(test, _means(dev, part.dev.qrels, trial.measures) if dev else {}, cost)
    values = {} if trial.dev_only else per_query(judged.test, shared.part(trial).test.qrels, trial.measures)
    result = {
        "dev": dict(judged.dev),
        "test": values,
        "cost": dict(judged.cost),
        "curve": [list(point) for point in judged.curve],
        "run": None if trial.dev_only else f"runs/{hashlib.sha256(trial.key.encode()).hexdigest()[:16]}.run",
    }
    return result, judged.test


def _train(trial: Trial, shared: SharedWork, on_progress: StageCallback) -> Judged:
    """Train the row, and score the test candidates with what dev kept."""
    part, recipe = shared.part(trial), trial.recipe
    ranker = open_recipe_base(recipe, part)
    found, candidates = _candidates(trial, shared, ranker)
    reset_peak()
    began = time.process_time()
    with TemporaryDirectory(prefix="lorank-trial-") as folder:
        fitted = fit_run(ranker, part, recipe, Path(folder), candidates=candidates, on_progress=on_progress)
        spent, scoring = time.process_time() - began, time.monotonic()
        lists = {} if trial.dev_only else {q: row for q, row in (found.test or {}).items() if row}
        test, dev = _judged_runs(trial, part, found, fitted, lists)
        cost = {
            "train_seconds": _train_seconds(Path(folder), fitted),
            "cpu_seconds": spent,
            "score_seconds": time.monotonic() - scoring,
            "bytes": float(folder_bytes(Path(folder) / "model")),
        }
        if (peak := peak_bytes()) is not None:
            cost["peak_bytes"] = peak
        if fitted.outcome is not None and fitted.outcome.steps:
            outcome = fitted.outcome
            cost["step_seconds"] = (outcome.seconds - outcome.look_seconds) / outcome.steps
        for name in ("trained_parameters", "trained_tokens"):
            if (value := getattr(fitted, name)) is not None:
                cost[name] = float(value)
        compressed = _record(Path(folder)).get("compress")
        if compressed is not None:
            cost["factored_values"] = float(compressed["factored_values"])
        dev = _dev_of(fitted, trial, part.dev.qrels, shared) if dev is None else dev
        return Judged(test, dev, {name: round(value, 4) for name, value in cost.items()}, _curve(Path(folder)))


def _judged_runs(
    trial: Trial, part: Collection, found: Candidates, fitted: Fitted, lists: Run
) -> tuple[Run, dict[str, float] | None]:
    """Return the test run, and the values on dev where they are not those of the fit: of what is read both ways."""
    learned = fitted.tuned.learned
    if trial.both_ways:
        ranker = BothWays(learned)
        asked = found.dev if fitted.sample is None else fitted.sample.run
        dev = score_run(ranker, part, part.dev.queries, asked)
        test = score_run(ranker, part, part.test.queries, lists)
        if found.has_first_stage:
            dev, test = mix_by_dev(trial, part, replace(found, dev=asked), dev, test)
        return test, _means(dev, {query: part.dev.qrels.get(query, {}) for query in asked}, trial.measures)
    own = score_run(learned, part, part.test.queries, lists) if lists else {}
    mixed = found.has_first_stage and fitted.tuned.first_stage is not None
    return mix_run(fitted.tuned.mix, standardise_run(lists), own) if mixed else own, None


def _candidates(trial: Trial, shared: SharedWork, ranker: Any) -> tuple[Candidates, Candidates | None]:
    """Return the trial's candidates, and those that the fit is given: with the untuned base's scores, where it has any.

    A ranker that learns by an objective of its own, or from lists that came with the data, finds its own.
    """
    found = shared.candidates(trial, ranker)
    if not ranker.trained_by_loop or shared.part(trial).has_features or not isinstance(ranker, TrainableRanker):
        return found, None
    untrained = starts_from_nothing(ranker) or found.whole
    known = None if untrained else shared.untuned(trial, ranker, found)
    return found, replace(found, untuned=known, test=None)


def _dev_of(fitted: Fitted, trial: Trial, qrels: Qrels, shared: SharedWork) -> dict[str, float]:
    """Return the values on the dev queries that the run looked at."""
    if fitted.dev is not None and fitted.sample is not None:
        return _means(fitted.dev.run, fitted.sample.qrels, trial.measures)
    part = shared.part(trial)
    run = score_run(fitted.tuned, part, part.dev.queries, part.dev.candidates or {})
    return _means(run, qrels, trial.measures)


def _means(run: Run, qrels: Qrels, measures: tuple[str, ...]) -> dict[str, float]:
    return {measure: mean_of(run, qrels, measure) for measure in measures}


def _train_seconds(folder: Path, fitted: Fitted) -> float:
    if fitted.outcome is not None:
        return fitted.outcome.seconds
    return float(_record(folder)["outcome"]["train_seconds"])


def _record(folder: Path) -> dict[str, Any]:
    """Return what a run says of itself; nothing where it has no record."""
    path = folder / "run.json"
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return record


def _curve(folder: Path) -> list[tuple[int, float]]:
    """Return (step, value on dev) of every look that the run's journal holds."""
    journal = folder / "metrics.jsonl"
    if not journal.is_file():
        return []
    rows = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    return [(int(row["step"]), next(iter(row["dev"].values()))) for row in rows if row.get("dev")]


def use_threads(threads: int) -> None:
    """Let torch and the libraries below it use ``threads`` threads in this process."""
    import torch

    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)
