"""From the ledger's lines to the result that statistics and page are made of."""

import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from lorank import __version__
from lorank.compare.examples import examples_of
from lorank.compare.experiment import Experiment, External, Row
from lorank.compare.goal import count_steps_to_goal
from lorank.compare.ledger import Line, Lines
from lorank.compare.plans import RowPlan, SeedPlan
from lorank.compare.random_search import describe_chosen
from lorank.compare.results import ExperimentResult, RowResult, TrialResult
from lorank.compare.schedule import plan_rows
from lorank.compare.selection import command_of_row
from lorank.compare.shared_work import SharedWork
from lorank.data.trec import read_run, write_run
from lorank.training.record import machine, packages
from lorank.tuned.naming import TREES_NAME

SUMMED = ("train_seconds", "cpu_seconds", "score_seconds", "calls", "tokens")
"""Costs of which folds have a part each; of all others the largest counts."""


def collect_result(
    experiment: Experiment,
    lines: Lines,
    shared: SharedWork,
    out: Path,
    command: str | None,
    rerun: str | None = None,
) -> ExperimentResult:
    """Return what an experiment measured; rows without a result say why.

    Args:
        experiment: The experiment.
        lines: The ledger's lines.
        shared: The collections.
        out: The experiment's folder, which holds the test runs; those of folds are joined there.
        command: The command line, for the record; None where there was none.
        rerun: The command of which each row's own is made; None where there is none.
    """
    plans = plan_rows(experiment, lines)
    collections = {plan.row.data: plan.row.recipe for plan in plans}
    name_of = {data: shared.load(recipe).name for data, recipe in collections.items()}
    if len(set(name_of.values())) < len(name_of):
        name_of = {data: data for data in collections}
    split = experiment.split
    rows = [_row(plan, lines, name_of[plan.row.data], out, command_of_row(rerun, plan.row.name)) for plan in plans]
    rows = rows if experiment.goal is None else count_steps_to_goal(rows, experiment.baseline, experiment.goal)
    examples = {
        name: examples_of(
            [row for row in rows if row.data == name],
            shared.load(collections[data]),
            split,
            experiment.baseline,
            experiment.measures[0],
            out,
        )
        for data, name in name_of.items()
    }
    return ExperimentResult(
        experiment.name,
        rows,
        experiment.measures,
        {name_of[data]: shared.groups(recipe, split) for data, recipe in collections.items()},
        experiment.baseline,
        {name_of[data]: dict(shared.load(recipe).split(split).queries) for data, recipe in collections.items()},
        experiment.source,
        describe_provenance(command),
        experiment.statistics,
        examples,
    )


def describe_provenance(command: str | None) -> dict[str, str]:
    """Return when, where and with what an experiment was made."""
    here, versions = machine(), packages()
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{here['cpu']}, {here['cores']} cores, {here['memory_gb']} GB"
        if here["cpu"]
        else platform.platform(),
        **({} if here["accelerator"] is None else {"accelerator": str(here["accelerator"])}),
        "versions": ", ".join(f"{name} {version}" for name, version in {"lorank": __version__, **versions}.items()),
        **({} if command is None else {"command": command}),
        "threads": os.environ.get("OMP_NUM_THREADS", "") or str(here["threads"]),
    }


def failure_of(plan: RowPlan, lines: Lines) -> str | None:
    """Return why a row has no result, None where it has one."""
    if any(_whole(seed, lines) for seed in plan.seeds):
        return None
    trials = [trial for seed in plan.seeds for trial in seed.trials]
    failed = [lines[t.key]["failed"] for t in trials if "failed" in lines.get(t.key, {})]
    if not failed:
        failed = [line["failed"] for line in lines.values() if "failed" in line and _is_of(line, plan.row)]
    if failed:
        return str(failed[0])
    return "the row that it is matched to has no result" if not plan.seeds else "its trials did not end"


def _row(plan: RowPlan, lines: Lines, data: str, out: Path, command: str | None) -> RowResult:
    row = plan.row
    whole = [seed for seed in plan.seeds if _whole(seed, lines)]
    trials = [_joined(seed, lines, out) for seed in whole]
    tried = [trial.key for seed in plan.seeds for trial in seed.tried if trial.key in lines]
    tuning = sum(float(lines[key]["seconds"]) for key in tried)
    if tuning:
        trials = [replace(trial, cost={**trial.cost, "tuning_seconds": round(tuning, 2)}) for trial in trials]
    settings = dict(row.settings)
    chosen = [seed.value for seed in whole if seed.value is not None]
    if row.sweep is not None and chosen:
        settings[row.sweep.key] = chosen[0] if len(set(chosen)) == 1 else chosen
    if whole and whole[0].drawn:
        settings |= describe_chosen(whole[0].drawn)
    if row.recipe.adapter.rank is not None and row.external is None:
        settings.setdefault("adapter.rank", row.recipe.adapter.rank)
    swept = next((list(seed.swept) for seed in plan.seeds if seed.swept), [])
    failed = failure_of(plan, lines)
    return RowResult(row.name, data, settings, trials, swept, failed, command, _is_seeded(row.external))


def _is_of(line: Line, row: Row) -> bool:
    return bool(line["row"] == row.name and line["settings"]["recipe"]["data"] == row.data)


def _is_seeded(external: External | None) -> bool:
    """Return whether another seed could give another result: of what learns, and of strategies that draw lots."""
    return external is None or external.strategy is not None or external.ranker == TREES_NAME


def _whole(seed: SeedPlan, lines: Lines) -> bool:
    return bool(seed.trials) and all("result" in lines.get(trial.key, {}) for trial in seed.trials)


def _joined(seed: SeedPlan, lines: Lines, out: Path) -> TrialResult:
    """Return one result of a seed: of folds, the test values of all, means on dev, and costs together."""
    results: list[Mapping[str, Any]] = [lines[trial.key]["result"] for trial in seed.trials]
    measures = seed.trials[0].measures
    dev = {m: fmean([r["dev"][m] for r in results]) for m in measures if all(m in r["dev"] for r in results)}
    test = {m: {query: value for r in results for query, value in r["test"][m].items()} for m in measures}
    return TrialResult(
        seed.seed,
        dev,
        test,
        _costs(results),
        _mean_curve([r["curve"] for r in results]),
        _join_runs(seed, results, out),
    )


def _costs(results: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    names = dict.fromkeys(name for result in results for name in result["cost"])
    found: dict[str, list[float]] = {name: [r["cost"][name] for r in results if name in r["cost"]] for name in names}
    return {name: sum(values) if name in SUMMED else max(values) for name, values in found.items()}


def _mean_curve(curves: Sequence[Sequence[Sequence[float]]]) -> list[tuple[int, float]]:
    """Return the mean over folds of the curves, at the steps that all of them have.

    >>> _mean_curve([[[0, 0.5], [4, 0.75]], [[0, 0.25]]])
    [(0, 0.375)]
    """
    points = [{int(step): value for step, value in curve} for curve in curves]
    steps = sorted(set.intersection(*map(set, points))) if points else []
    return [(step, fmean([each[step] for each in points])) for step in steps]


def _join_runs(seed: SeedPlan, results: Sequence[Mapping[str, Any]], out: Path) -> str | None:
    paths = [str(result["run"]) for result in results]
    if len(paths) == 1:
        return paths[0]
    path = Path("runs") / f"folds-{Path(paths[0]).stem}.run"
    if not (out / path).is_file() and all((out / each).is_file() for each in paths):
        joined = {query: row for each in paths for query, row in read_run(out / each).items()}
        write_run(joined, out / path, seed.trials[0].row.replace(" ", "-"))
    return str(path)
