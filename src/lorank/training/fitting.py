"""`fit`: one call from a ranker and a collection to a tuned ranker that starts at the first stage.

1. first-stage candidates for the training and dev queries; 2. texts are prepared once; 3. the adapter is
attached, after a calibration pass where its start reads one; 4. steps and a look at dev are measured, which gives the
estimate of the run's time, and its steps where that time is bounded; 5. the loop runs, dev nDCG@10 deciding which
weights are kept and how much of the learned score is added to the first stage's; where training gained nothing on dev
over the untuned base, the base is kept; 6. first stage, untuned base and tuned ranker are judged on test, where there
is one; 7. the model folder is written and re-opened.
"""

import json
import shutil
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from lorank.data.collection import Collection
from lorank.data.files import write_text
from lorank.data.folds import hold_out_dev
from lorank.errors import UsageError
from lorank.lowrank.budgets.core.settle import settle
from lorank.progress import StageCallback
from lorank.ranking.losses.core.registry import needs_contrast
from lorank.ranking.scorers.ranker import FittedRanker, TrainableRanker
from lorank.ranking.types import Run
from lorank.reporting.examples import write_examples
from lorank.training.begin_run import Begun, begin, check_time, step_cost, timing_record
from lorank.training.dev import Clock, DevResult, dev_record
from lorank.training.dev_sample import DevSample
from lorank.training.gain import TUNED, UNTUNED, Gain, Ladder, as_record, gain_of, judge_dev, judge_test
from lorank.training.hooks.hook import Hook, Progress
from lorank.training.hooks.keep_last import KeepTrained
from lorank.training.lists.candidates import Candidates
from lorank.training.loop.loop import MAIN_MEASURE, Outcome, train
from lorank.training.loop.time_budget import TimeBudget
from lorank.training.model_card import write_model_card
from lorank.training.movement import MovementWarning
from lorank.training.plan import Plan, build_plan, resolve_recipe
from lorank.training.policies.run import fit_by_reward
from lorank.training.policies.settings import NONE, check_policy
from lorank.training.ranges import check_ranges
from lorank.training.record import write_record
from lorank.training.self_fitting import OwnLearner, check_unused_settings, fit_by_own_objective
from lorank.training.settings import AdapterSettings, Recipe
from lorank.tuned.mix import Mix
from lorank.tuned.ranker import TunedRanker

OPPONENT = "opponent"
"""The folder of a run that holds the ranker which was trained against it."""


def fit(
    ranker: FittedRanker,
    data: Collection,
    adapter: str | None = None,
    loss: str | None = None,
    rank: int | None = None,
    out: str | Path = "runs/last",
    *,
    recipe: Recipe | None = None,
    candidates: Candidates | None = None,
    hooks: Sequence[Hook] = (),
    resume: bool = False,
    overwrite: bool = False,
    command: str | None = None,
    on_progress: StageCallback = lambda what, done, total: None,
) -> TunedRanker:
    """Train ``ranker`` on the training split of ``data`` and return it tuned, with ``out`` as its run folder.

    A ranker that learns by an objective of its own (`lorank.training.self_fitting`) refuses an adapter, a rank,
    candidates, hooks and a run to resume; some such rankers take a loss.

    Args:
        ranker: The untuned ranker, which is changed in place.
        data: The collection; where it has no dev split, one is held out of train.
        adapter: The name of the low-rank method; None leaves it to the recipe.
        loss: The name of the loss; None leaves it to the recipe.
        rank: The rank of the adapter, 0 or more; None leaves it to the recipe.
        out: The run folder.
        recipe: All other settings; None takes the defaults.
        candidates: The first-stage candidates, where the caller has them; None finds them.
        hooks: The hooks that run beside the recipe's own.
        resume: True goes on from the latest checkpoint in ``out``.
        overwrite: True replaces an earlier run in ``out``.
        command: The command line, for the record; None where there was none.
        on_progress: It receives the stage, the number of units done and their total.

    Raises:
        UsageError: If the data lacks what training needs, or ``out`` already holds a run and neither ``resume`` nor
            ``overwrite`` is given.
    """
    return fit_run(
        ranker,
        data,
        _with(recipe or Recipe(), adapter, loss, rank),
        Path(out),
        candidates=candidates,
        hooks=hooks,
        given={"adapter": adapter, "loss": loss, "rank": rank},
        resume=resume,
        overwrite=overwrite,
        command=command,
        on_progress=on_progress,
    ).tuned


@dataclass(frozen=True)
class Fitted:
    """A run that ended.

    Attributes:
        tuned: The tuned ranker.
        outcome: How its loop ended, None where the ranker learned by an objective of its own.
        gains: What training gained on dev and, where there is one, on test.
        runs: The runs of the rungs on test, by their names; empty where test was not judged.
        untuned: The mix that dev chose for the untuned base, None where there is none.
        dev: What dev says of the weights that were kept, None where the ranker learned by an objective of its own.
        sample: The dev queries that were looked at, None likewise.
        trained_parameters: How many values were trained, None likewise.
        trained_tokens: About how many tokens (texts or rows, where there are none) its steps read, None likewise.
    """

    tuned: TunedRanker
    outcome: Outcome | None = None
    gains: Sequence[Gain] = ()
    runs: Mapping[str, Run] = field(default_factory=dict)
    untuned: Mix | None = None
    dev: DevResult | None = None
    sample: DevSample | None = None
    trained_parameters: int | None = None
    trained_tokens: float | None = None


def fit_run(
    ranker: FittedRanker,
    data: Collection,
    recipe: Recipe,
    out: Path,
    *,
    candidates: Candidates | None = None,
    hooks: Sequence[Hook] = (),
    given: Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    command: str | None = None,
    on_progress: StageCallback = lambda what, done, total: None,
    clock: Clock = time.monotonic,
    prepare: Callable[[Plan], Plan] = lambda plan: plan,
) -> Fitted:
    """Return all that a run of `fit` ends with.

    Args:
        ranker: The ranker that learns.
        data: The collection.
        recipe: The recipe.
        out: The run folder.
        candidates: First-stage candidates, where the caller has them already.
        hooks: Hooks of the loop.
        given: Arguments that a ranker with an objective of its own does not take, by name.
        resume: Whether the run in ``out`` is taken up.
        overwrite: Whether the run in ``out`` is replaced.
        command: The command line, for the record.
        on_progress: Receives stages, and messages with a total of 0.
        clock: Returns seconds; the time of a bounded run is measured by it.
        prepare: Returns the plan as it is to be trained: with weights that go on from others, or with further hooks.
    """
    began = clock()
    check_ranges(recipe)
    check_policy(recipe)
    data = with_dev(data, recipe.seed)
    if not ranker.trained_by_loop or not isinstance(ranker, TrainableRanker):
        learner, own = cast(OwnLearner, ranker), dict(given or {})
        if getattr(ranker, "takes_loss", False):
            own.pop("loss", None)
        check_unused_settings(learner, recipe, **own, candidates=candidates, hooks=hooks, resume=resume)
        folder = claim_run_folder(out, False, overwrite)
        return Fitted(fit_by_own_objective(learner, data, folder, recipe, command=command, on_progress=on_progress))
    check_time(recipe.training)
    minutes = recipe.training.minutes
    budget = None if minutes is None else TimeBudget(60.0 * minutes, clock, began)
    recipe, rank_budget = resolve_recipe(ranker, data, recipe)
    out = claim_run_folder(out, resume, overwrite)
    plan = prepare(build_plan(ranker, data, recipe, rank_budget, out, candidates, on_progress))
    if recipe.policy.name != NONE:
        tuned, outcome = fit_by_reward(plan, out, hooks=hooks, resume=resume, command=command, on_progress=on_progress)
        return Fitted(tuned, outcome)
    run = begin(plan, out, budget, clock, resume, on_progress)
    return _train(plan, run, hooks, out, resume, command, on_progress)


def _train(
    plan: Plan,
    run: Begun,
    hooks: Sequence[Hook],
    out: Path,
    resume: bool,
    command: str | None,
    on_progress: StageCallback,
) -> Fitted:
    """Train a run that has begun, judge what it gained, and write its folder."""
    dev, recipe = run.dev, plan.recipe

    def report(progress: Progress) -> None:
        dev.keep(progress)
        report_step(on_progress, progress)

    kept = [KeepTrained()] if recipe.keeps_trained else []
    session = plan.session(out, dev, [*hooks, *kept], run.estimate.steps, run.looks.steps, run.budget)
    outcome = train(session, on_progress=report, resume=resume)
    if plan.compress is None:
        result = dev.at(outcome.best_step, partial(on_progress, "score dev"))
    else:
        plan.compress.finish()
        result = dev.look(partial(on_progress, "score dev after the final cut"))
    if plan.budget is not None and plan.weights.adapter is not None:
        settle(plan.weights.adapter)
    if not plan.has_untuned:
        return _write(plan, run, outcome, result, [], None, out, command)
    untuned = dev.untuned or dev.look_back(partial(on_progress, "score dev with the untuned base"))
    gain = judge_dev(plan.data, dev.sample, plan.found.has_first_stage, untuned, result, recipe.seed)
    measured = needs_contrast(recipe.loss.name)  # where every document is relevant, nDCG says nothing of the weights
    trained = gain.difference > 0 or recipe.keeps_trained or not measured
    if not trained:
        plan.go_back()
        outcome.best_step, result = 0, untuned
    ladder = judge_test(plan, untuned.mix, result.mix, trained, on_progress)
    return _write(plan, run, outcome, result, [gain], ladder, out, command)


def _write(
    plan: Plan,
    run: Begun,
    outcome: Outcome,
    result: DevResult,
    gains: list[Gain],
    ladder: Ladder | None,
    out: Path,
    command: str | None,
) -> Fitted:
    """Return the run with its model folder, card, record and judgement written under ``out``."""
    mix, judged = result.mix, None if ladder is None else ladder.judged
    on_test = None if judged is None else gain_of(judged)
    gains = gains if on_test is None else [*gains, on_test]
    first_stage = plan.found.first_stage if mix.first_stage else None
    dev, records = dev_record(run.dev.sample, result), [as_record(each) for each in gains]
    tuned = TunedRanker(plan.ranker, plan.weights.adapter, first_stage, mix, records, dev=dev)
    if still := plan.describe_movement():
        tuned.notes.append(still)
        if command is None:  # a command prints the notes
            warnings.warn(still, MovementWarning, stacklevel=4)
    tuned.notes.extend(plan.describe_rule())
    if plan.compress is not None:
        tuned.notes.append(plan.compress.merge())
    tuned.save(out / "model")
    if plan.against is not None:
        plan.against.opponent.save(out / OPPONENT)
    judged_on = f"Dev chose the steps and the mix: {dev['sentence']} Dev values are optimistic."
    write_model_card(out / "model", plan.recipe, plan.data, plan.ranker, mix, plan.found.source, judged_on, gains)
    write_record(out, plan, outcome, mix, gains, command, timing_record(run, outcome) | {"dev": dev})
    if judged is not None:
        write_text(out / "results.json", json.dumps(judged.to_dict(), indent=1) + "\n")
    if ladder is not None and {UNTUNED, TUNED} <= ladder.runs.keys():
        pair = ((name, ladder.runs[name]) for name in (UNTUNED, TUNED))
        write_examples(out, plan.data, plan.data.test, *pair)
    untuned = None if run.dev.untuned is None else run.dev.untuned.mix
    trained = sum(p.numel() for group in plan.weights.parameter_groups() for p in group["params"])
    runs = {} if ladder is None else ladder.runs
    tokens = outcome.steps * step_cost(plan)
    return Fitted(tuned, outcome, gains, runs, untuned, result, run.dev.sample, trained, tokens)


def _with(recipe: Recipe, adapter: str | None, loss: str | None, rank: int | None) -> Recipe:
    changed: AdapterSettings = recipe.adapter
    if adapter is not None:
        changed = replace(changed, name=adapter)
    if rank is not None:
        changed = replace(changed, rank=rank)
    wanted = recipe.loss if loss is None else replace(recipe.loss, name=loss)
    return replace(recipe, adapter=changed, loss=wanted)


def with_dev(data: Collection, seed: int) -> Collection:
    """Return the collection with a dev split, held out of train where it has none; UsageError where it has no train."""
    if "train" not in data.splits:
        raise UsageError(
            f"collection {data.name!r} has no training split (it has: {', '.join(data.splits)}); "
            "cross-validate over the judged queries with --folds 5"
        )
    return data if "dev" in data.splits else hold_out_dev(data, 0.15, seed)


def claim_run_folder(out: Path, resume: bool, overwrite: bool) -> Path:
    """Return the run folder, made or emptied of an earlier run.

    Raises UsageError where it holds a run and neither ``resume`` nor ``overwrite`` is said.
    """
    begun = (out / "metrics.jsonl").exists() or (out / "model").exists()
    if begun and not (resume or overwrite):
        raise UsageError(
            f"{out} already holds a run; take it up with --resume, replace it with --overwrite, or choose another --out"
        )
    if begun and overwrite and not resume:
        for name in ("checkpoints", "model", OPPONENT):
            shutil.rmtree(out / name, ignore_errors=True)
        (out / "metrics.jsonl").unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    return out


def report_step(on_progress: StageCallback, progress: Progress) -> None:
    """Report a step, with the loss and the latest value on dev."""
    dev = "" if progress.dev is None else f" · dev {progress.dev[MAIN_MEASURE]:.3f}"
    on_progress(f"train · loss {progress.loss:.3f}{dev}", progress.step, progress.steps)


__all__ = ["Outcome", "fit"]
