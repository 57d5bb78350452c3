"""What is decided between the plan of a run and its first step: how many steps, which looks at dev, how long it takes.

Where the time of the run is bounded, its number of steps follows from the estimate:

    steps = (time left - looks * time of a look - time of the judgement on test) / time of a step

A resumed run takes the plan of its beginning from estimate.json.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator

from lorank.errors import LorankError, UsageError
from lorank.files import write_json
from lorank.progress import StageCallback
from lorank.ranking.types import Run
from lorank.training.dev import Clock, DevMeasure, tokens_read
from lorank.training.dev_sample import Looks, plan_looks
from lorank.training.estimate import ESTIMATE, MEASURED_STEPS, Estimate, read_estimate, time_steps
from lorank.training.lists.list_loss import batches_an_epoch, lists_at
from lorank.training.loop.checkpoints import newest_checkpoint
from lorank.training.loop.loop import MOST_LOOKS, evaluation_steps
from lorank.training.loop.run_state import Outcome
from lorank.training.loop.time_budget import TimeBudget
from lorank.training.plan import Plan
from lorank.training.settings import OptimizerSettings


@dataclass(frozen=True)
class Begun:
    """A run that may take its first step: its looks, its estimate and its time."""

    dev: DevMeasure
    looks: Looks
    estimate: Estimate
    budget: TimeBudget | None


def begin(
    plan: Plan, out: Path, budget: TimeBudget | None, clock: Clock, resume: bool, on_progress: StageCallback
) -> Begun:
    """Return how the run goes: as estimate.json says where it is resumed, else as measured now.

    Args:
        plan: The run.
        out: The run folder.
        budget: The run's time, where it is bounded.
        clock: Returns seconds.
        resume: Whether the run is taken up from its newest checkpoint.
        on_progress: Receives the estimate as a message, and the progress of the look.

    Raises:
        LorankError: Where a run is resumed with another bound on its time.
    """
    plan.ranker.module.to(Accelerator().device)
    known = read_estimate(out / ESTIMATE) if resume else None
    if known is not None and known.minutes != plan.recipe.training.minutes:
        raise LorankError(
            f"{out}: the run was begun with minutes = {known.minutes}, and is resumed with "
            f"{plan.recipe.training.minutes}; resume with the same, or start anew with --overwrite"
        )
    if known is not None and known.minutes is not None:
        return _take_up(plan, known, budget, clock, out, on_progress)
    fresh = not resume or newest_checkpoint(out / "checkpoints") is None
    known = None if fresh else known
    step_seconds = _measure_steps(plan, clock, on_progress) if known is None else known.step_seconds
    steps = _guess_steps(plan, budget, step_seconds)
    looks = plan_looks(plan.data, plan.found, plan.recipe, steps, step_cost(plan), _cost_of(plan))
    dev = DevMeasure(plan, looks.sample, clock)
    if known is None:
        dev.begin(_stage(on_progress, "score dev with the untuned base"), fresh=fresh)
    look_seconds = dev.seconds if known is None else known.look_seconds
    estimate = _estimate(plan, looks, steps, step_seconds, look_seconds, budget)
    if known is None:
        write_json(out / ESTIMATE, estimate.record())
    on_progress(estimate.describe(), 0, 0)
    return _begun(plan, dev, replace(looks, steps=tuple(estimate.looks)), estimate, budget)


def timing_record(run: Begun, outcome: Outcome) -> dict[str, Any]:
    """Return the estimate of the time beside the time that was taken, as JSON data."""
    looks = run.estimate.look_seconds + outcome.look_seconds
    whole = run.estimate.look_seconds + outcome.seconds
    taken = {
        "looks": outcome.looks,
        "look_seconds": looks,
        "step_seconds": (whole - looks) / max(outcome.steps, 1),
        "dev_share": looks / whole if whole > 0 else 0.0,
    }
    return {"estimate": run.estimate.record(), "time": taken}


def check_time(settings: OptimizerSettings) -> None:
    """Raise UsageError for a bound or a share that cannot be."""
    if settings.minutes is not None and not 0 < settings.minutes < math.inf:
        raise UsageError(f"--minutes {settings.minutes:g}: give a number of minutes above 0")
    if settings.minutes is not None and Accelerator().num_processes > 1:
        raise UsageError("--minutes is for one process, since several would stop at unlike steps; give --steps")


def step_cost(plan: Plan, batches: int = MEASURED_STEPS) -> float:
    """Return what the lists of one step read, as `tokens_read` counts it."""
    settings, total = plan.settings, 0.0
    per_epoch = batches_an_epoch(plan.lists, settings.batch_size)
    for index in range(batches):
        batch = plan.lists.collate(lists_at(plan.lists, index, settings.batch_size, per_epoch))
        inside = batch.mask.numpy()
        queries = np.broadcast_to(batch.queries.numpy()[:, None], inside.shape)[inside]
        total += tokens_read(plan, np.stack([queries, batch.documents.numpy()[inside]], 1))
    return total / batches * settings.accumulate


def _cost_of(plan: Plan) -> Callable[[Run], float]:
    return lambda run: tokens_read(plan, plan.pairs_of(run), whole=True)


def _measure_steps(plan: Plan, clock: Clock, on_progress: StageCallback) -> float:
    asked = plan.recipe.training.steps
    count = MEASURED_STEPS if asked is None else max(1, min(MEASURED_STEPS, asked))
    on_progress("measure steps", 0, 1)
    seconds = time_steps(plan, clock, count)
    on_progress("measure steps", 1, 1)
    return seconds


def _asked_steps(plan: Plan) -> int:
    """Return how many steps the settings ask for, where time does not bound them."""
    settings = plan.recipe.training
    if settings.tokens is not None:
        fit = max(1, round(settings.tokens / max(step_cost(plan), 1e-9)))
        return fit if settings.steps is None else min(fit, settings.steps)
    per_epoch = batches_an_epoch(plan.lists, settings.batch_size)
    return settings.count_steps(per_epoch, features=plan.ranker.kind == "features")


def _guess_steps(plan: Plan, budget: TimeBudget | None, step_seconds: float) -> int:
    """Return how many steps there will be; within a budget of time, how many would fit beside looks at their share."""
    if budget is None:
        return _asked_steps(plan)
    settings = plan.recipe.training
    fit = int((1 - settings.evaluation_share) * budget.left / max(step_seconds, 1e-9))
    return max(1, fit if settings.steps is None else min(fit, settings.steps))


def _estimate(
    plan: Plan, looks: Looks, steps: int, step_seconds: float, look_seconds: float, budget: TimeBudget | None
) -> Estimate:
    """Return the estimate, with the steps that fit where the time is bounded."""
    settings, sample = plan.recipe.training, looks.sample
    test = look_seconds * _test_looks(plan, sample.run)
    plain = Estimate(steps, step_seconds, list(looks.steps), look_seconds, test, len(sample.run), sample.depth)
    if budget is None:
        return plain
    left, count = budget.left - test, settings.evaluations
    if count is None:
        count = int(np.clip(settings.evaluation_share * left / max(look_seconds, 1e-9), 1, MOST_LOOKS))
    stepping = max(0.0, left - max(count, 1) * look_seconds)
    fit = max(1, int(stepping / max(step_seconds, 1e-9)))
    steps = fit if settings.steps is None else min(fit, settings.steps)
    return replace(
        plain,
        steps=steps,
        looks=sorted(evaluation_steps(steps, min(count, steps))),
        minutes=settings.minutes,
        stepping=stepping,
    )


def _test_looks(plan: Plan, run: Run) -> float:
    """Return how many looks the judgement on test costs: two rankers, over whole candidate lists."""
    test = plan.found.test
    if not test or not plan.has_untuned:
        return 0.0

    def size(lists: Run) -> int:
        rows = [document for row in lists.values() for document in row]
        return len(set(rows)) if plan.ranker.kind == "bi-encoder" else len(rows)

    return 2 * size(test) / max(1, size(run))


def _take_up(
    plan: Plan, known: Estimate, budget: TimeBudget | None, clock: Clock, out: Path, on_progress: StageCallback
) -> Begun:
    """Return how a run goes on whose time is bounded: with the steps, the looks and the sample that it began with."""
    settings = replace(
        plan.recipe.training,
        evaluations=len(known.looks),
        evaluation_queries=known.queries,
        evaluation_depth=known.depth,
    )
    recipe = replace(plan.recipe, training=settings)
    looks = plan_looks(plan.data, plan.found, recipe, known.steps, step_cost(plan), _cost_of(plan))
    dev = DevMeasure(plan, looks.sample, clock)
    if newest_checkpoint(out / "checkpoints") is None:
        dev.begin(_stage(on_progress, "score dev with the untuned base"))
    on_progress(known.describe(), 0, 0)
    again = 0.0 if dev.untuned else 2 * known.look_seconds  # looks of the first process, which are taken again
    return _begun(plan, dev, replace(looks, steps=tuple(known.looks)), known, budget, again)


def _begun(
    plan: Plan, dev: DevMeasure, looks: Looks, estimate: Estimate, budget: TimeBudget | None, again: float = 0.0
) -> Begun:
    if budget is not None:
        budget.look, budget.stepping = estimate.look_seconds, estimate.stepping
        budget.reserve = estimate.look_seconds + estimate.test_seconds + again
    return Begun(dev, looks, estimate, budget)


def _stage(on_progress: StageCallback, name: str) -> Callable[[int, int], None]:
    return lambda done, total: on_progress(name, done, total)
