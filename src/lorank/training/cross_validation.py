"""Cross-validation: each judged query is ranked by a model that never saw it, and all together make one ranker.

Each fold is a run of its own in ``out/fold-K``. What the folds' rankers say of the queries that they were not trained
on is pooled and judged: first stage, untuned base, tuned rankers. The ranker in ``out/model`` is then fitted on all
queries (`lorank.training.final_fit`).
"""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median_low
from typing import Any

from lorank.data.collection import Collection, Split
from lorank.data.files import write_text
from lorank.data.folds import choose_judged_split, cross_validation
from lorank.data.trec import write_run
from lorank.errors import UsageError
from lorank.files import write_json
from lorank.progress import StageCallback
from lorank.ranking.metrics.evaluation import Evaluation
from lorank.ranking.metrics.groups import group_tied_queries
from lorank.ranking.scorers.ranker import FittedRanker, TrainableRanker
from lorank.ranking.types import Run
from lorank.training.dev import Clock
from lorank.training.final_fit import Choice, fit_all
from lorank.training.fitting import claim_run_folder, fit_run
from lorank.training.gain import FIRST_STAGE, TUNED, UNTUNED, Gain, as_record, gain_of, judge_ladder
from lorank.training.loop.run_state import Outcome
from lorank.training.loop.time_budget import TimeBudget
from lorank.training.open_recipe import open_recipe_base
from lorank.training.recipe import RecipeFile
from lorank.tuned.mix import Mix
from lorank.tuned.ranker import TunedRanker, rerank_run

FILES = {FIRST_STAGE: "first_stage.run", UNTUNED: "untuned.run", TUNED: "tuned.run"}


@dataclass(frozen=True)
class CrossValidated:
    """The judgement of the pooled runs, and the ranker that was fitted on all queries."""

    judged: Evaluation
    tuned: TunedRanker


@dataclass(frozen=True)
class FoldResult:
    """What is kept of a fold's run: not its ranker, for memory holds one at a time."""

    part: Collection
    outcome: Outcome | None
    gains: Sequence[Gain]
    runs: Mapping[str, Run]
    mix: Mix
    untuned: Mix


@dataclass(frozen=True)
class Folds:
    """A judged split, divided; ``together`` is True where queries that share relevant documents share a fold."""

    whole: Split
    parts: list[Collection]
    together: bool

    def describe(self) -> str:
        """Return the queries, the groups and how they were dealt, in words."""
        groups = len(set(group_tied_queries(self.whole.qrels).values()))
        dealt = (
            "queries that share relevant documents are in one fold"
            if self.together
            else "groups are too large to keep in one fold, so that queries were dealt one by one, and relevant "
            "documents of held-out queries may have been trained on"
        )
        return f"{len(self.parts)} folds over {len(self.whole)} queries in {groups} independent groups ({dealt})"


def divide(data: Collection, folds: int, seed: int, split: str) -> Folds:
    """Return the folds; groups of queries that share relevant documents stay together where they can."""
    whole = choose_judged_split(data, split)
    try:
        return Folds(whole, cross_validation(data, folds=folds, seed=seed, split=split, by="target"), True)
    except UsageError:
        return Folds(whole, cross_validation(data, folds=folds, seed=seed, split=split), False)


def cross_validate(
    data: Collection,
    plan: RecipeFile,
    folds: int,
    split: str,
    out: Path,
    *,
    command: str | None,
    resume: bool,
    overwrite: bool,
    on_progress: StageCallback,
    clock: Clock = time.monotonic,
) -> CrossValidated:
    """Train ``folds`` rankers, judge what they say of their held-out queries, and fit one ranker on all queries.

    The pooled runs are ``out/first_stage.run``, ``out/untuned.run`` and ``out/tuned.run``, the judgement
    ``out/results.json``. Of a bounded time each fold, and the ranker at the end, get an equal part.

    Args:
        data: The collection.
        plan: The recipe of every fold.
        folds: The number of folds, 3 or more.
        split: The judged split that is divided.
        out: The run folder.
        command: The command line, for the record.
        resume: Whether runs in the folder are taken up.
        overwrite: Whether runs in the folder are replaced.
        on_progress: Receives stages.
        clock: Returns seconds.
    """
    divided = divide(data, folds, plan.seed, split)
    claim_run_folder(out, resume, overwrite)
    on_progress(divided.describe(), 0, 0)
    minutes = None if plan.training.minutes is None else plan.training.minutes / (folds + 1)
    own = replace(plan, judge_test=True, training=replace(plan.training, minutes=minutes))
    fitted: list[FoldResult] = []
    for number, part in enumerate(divided.parts, start=1):
        report = partial(_report_fold, on_progress, f"fold {number} of {folds}: ")
        folder = out / f"fold-{number}"
        again = resume and folder.exists()
        run = fit_run(
            open_recipe_base(plan, part),
            part,
            own,
            folder,
            resume=again,
            overwrite=overwrite,
            command=command,
            on_progress=report,
            clock=clock,
        )
        runs = run.runs or _rank_test(run.tuned, part, report)
        fitted.append(FoldResult(part, run.outcome, run.gains, runs, run.tuned.mix, run.untuned or run.tuned.mix))
    judged, gain = _judge_pooled(data, plan, split, folds, divided, fitted, out)
    choice = _choose(divided, fitted, gain, plan.keeps_trained)
    ranker = open_recipe_base(plan, replace(data, splits={"train": divided.whole}))
    report = partial(_report_fold, on_progress, "all queries: ")
    budget = None if minutes is None else TimeBudget(60.0 * minutes, clock)
    if isinstance(ranker, TrainableRanker) and ranker.trained_by_loop:
        tuned = fit_all(
            ranker,
            data,
            divided.whole,
            own,
            choice,
            out,
            budget=budget,
            resume=resume,
            command=command,
            on_progress=report,
        )
    else:
        tuned = _fit_own(ranker, data, divided.whole, own, choice, out, command, report)
    return CrossValidated(judged, tuned)


def _report_fold(on_progress: StageCallback, prefix: str, what: str, done: int, total: int) -> None:
    on_progress(prefix + what, done, total)


def _rank_test(tuned: TunedRanker, part: Collection, on_progress: StageCallback) -> dict[str, Run]:
    """Return the runs of a ranker that has no untuned base to be compared with."""
    candidates = part.test.candidates or {}
    return {TUNED: rerank_run(tuned, part, part.test.queries, candidates, partial(on_progress, "rerank"))}


def _judge_pooled(
    data: Collection, plan: RecipeFile, split: str, folds: int, divided: Folds, fitted: Sequence[FoldResult], out: Path
) -> tuple[Evaluation, Gain | None]:
    """Return the judgement of the pooled runs and the gain in it, with runs and results.json written."""
    names = [name for name in FILES if all(name in run.runs for run in fitted)]
    pooled = {name: {query: row for run in fitted for query, row in run.runs[name].items()} for name in names}
    for name, run in pooled.items():
        write_run(run, out / FILES[name], name.replace(" ", "-"))
    whole = replace(divided.whole, name=f"{split}, {folds}-fold cross-validation")
    judged = judge_ladder(pooled, whole, data.name, plan.seed)
    judged = replace(judged, settings=judged.settings | {"folds": divided.describe()})
    write_text(out / "results.json", json.dumps(judged.to_dict(), indent=1) + "\n")
    gain = gain_of(judged)
    return judged, None if gain is None else replace(gain, split="held-out")


def _choose(divided: Folds, fitted: Sequence[FoldResult], gain: Gain | None, keeps: bool) -> Choice:
    """Return what the folds chose together: the median of their steps and weights, or the untuned base."""
    best = [0 if run.outcome is None else run.outcome.best_step for run in fitted]
    steps = median_low(best)
    if gain is None:
        steps = max(1, steps)
    elif gain.difference <= 0 and not keeps:
        steps = 0
    weight = median_low([weight_of(run.mix if steps else run.untuned) for run in fitted])
    own = all(run.outcome is None for run in fitted)
    made = _describe_own(divided) if own else _describe(divided, best, steps, weight)
    records = [_fold_record(number, run) for number, run in enumerate(fitted, start=1)]
    return Choice(steps, weight, made, [] if gain is None else [gain], {"made": made, "folds": records})


def _describe(divided: Folds, best: Sequence[int], steps: int, weight: float) -> str:
    kept = (
        f"{steps} steps of training" if steps else "the untuned base, for training gained nothing on held-out queries"
    )
    return (
        f"Fitted on all {len(divided.whole)} judged queries after {divided.describe()}. The folds chose {kept}: their "
        f"best steps were {', '.join(map(str, best))}, and the median counts. The weight of the learned score is "
        f"{'alone' if math.isinf(weight) else f'{weight:g}'}, the median of the folds. The numbers are those of the "
        "folds' models, each on queries that it had not seen."
    )


def _describe_own(divided: Folds) -> str:
    return (
        f"Fitted on the {len(divided.whole)} judged queries, some of which decided how long it learned, after "
        f"{divided.describe()}. The numbers are those of the folds' models, each on queries that it had not seen."
    )


def weight_of(mix: Mix) -> float:
    """Return the weight of the learned score, infinite where it stands alone."""
    return mix.weight if mix.first_stage else math.inf


def _fold_record(number: int, run: FoldResult) -> dict[str, Any]:
    gain = next((each for each in run.gains if each.split == "test"), None)
    weight, test = weight_of(run.mix), run.part.test
    return {
        "fold": number,
        "queries": len(test),
        "groups": len(set(group_tied_queries(test.qrels).values())),
        "steps": None if run.outcome is None else run.outcome.steps,
        "best_step": None if run.outcome is None else run.outcome.best_step,
        "weight": None if math.isinf(weight) else weight,
        "gain": None if gain is None else as_record(gain),
    }


def _fit_own(
    ranker: FittedRanker,
    data: Collection,
    whole: Split,
    recipe: RecipeFile,
    choice: Choice,
    out: Path,
    command: str | None,
    on_progress: StageCallback,
) -> TunedRanker:
    """Return a ranker that learns by its own objective, fitted on all queries but some that decide how long."""
    alone = replace(data, splits={"train": replace(whole, name="train")})
    tuned = fit_run(ranker, alone, recipe, out, overwrite=True, command=command, on_progress=on_progress).tuned
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    write_json(out / "run.json", record | dict(choice.record), indent=1)
    return tuned
