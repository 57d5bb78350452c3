"""`fit`: one call from a ranker and a collection to a tuned ranker that starts at the first stage.

1. first-stage candidates for the training and dev queries; 2. texts are prepared once; 3. the adapter is
attached, after a calibration pass where its start reads one; 4. the loop runs, dev nDCG@10 deciding which weights
are kept; 5. dev decides how much of the learned score is added to the first stage's, for the tuned ranker and for the
untuned base; where training gained nothing on dev, the untuned base is kept; 6. first stage, untuned base and tuned
ranker are judged on test, where there is one; 7. the model folder is written and re-opened.
"""

import json
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

from lorank.data.collection import Collection
from lorank.data.files import write_text
from lorank.data.folds import hold_out_dev
from lorank.errors import UsageError
from lorank.lowrank.budgets.core.settle import settle
from lorank.progress import StageCallback
from lorank.ranking.losses.core.registry import needs_contrast
from lorank.ranking.metrics.evaluation import Evaluation
from lorank.ranking.scorers.ranker import FittedRanker, TrainableRanker
from lorank.training.dev import DevMeasure
from lorank.training.gain import Gain, as_record, gain_of, judge_dev, judge_test
from lorank.training.hooks.hook import Hook, Progress
from lorank.training.lists.candidates import Candidates
from lorank.training.loop.loop import MAIN_MEASURE, Outcome, train
from lorank.training.model_card import write_model_card
from lorank.training.movement import MovementWarning
from lorank.training.plan import Plan, build_plan, resolve_recipe
from lorank.training.record import write_record
from lorank.training.self_fitting import OwnLearner, check_unused_settings, fit_by_own_objective
from lorank.training.settings import AdapterSettings, Recipe
from lorank.tuned.mix import Mix
from lorank.tuned.ranker import Learned, TunedRanker


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
    recipe = _with(recipe or Recipe(), adapter, loss, rank)
    data = _with_dev(data, recipe.seed)
    if not ranker.trained_by_loop or not isinstance(ranker, TrainableRanker):
        learner = cast(OwnLearner, ranker)
        check_unused_settings(
            learner,
            recipe,
            adapter=adapter,
            loss=None if getattr(ranker, "takes_loss", False) else loss,
            rank=rank,
            candidates=candidates,
            hooks=hooks,
            resume=resume,
        )
        return fit_by_own_objective(
            learner, data, _run_folder(Path(out), False, overwrite), recipe, command=command, on_progress=on_progress
        )
    recipe, budget = resolve_recipe(ranker, data, recipe)
    out = _run_folder(Path(out), resume, overwrite)
    plan = build_plan(ranker, data, recipe, budget, out, candidates, on_progress)
    dev = DevMeasure(Learned(ranker, plan.weights.adapter), data, plan.found, plan.recipe)
    outcome = train(plan.session(out, dev, hooks), on_progress=partial(_report_step, on_progress), resume=resume)
    if plan.budget is not None and plan.weights.adapter is not None:
        settle(plan.weights.adapter)
    result = dev.choose(partial(on_progress, "score dev"))
    if not plan.has_untuned:
        return _write(plan, outcome, result.mix, None, None, out, command)
    with plan.beginning.restored():
        untuned = dev.choose(partial(on_progress, "score dev with the untuned base"), ranker)
    gain = judge_dev(data, plan.found, untuned, result, recipe.seed)
    measured = needs_contrast(recipe.loss.name)  # where every document is relevant, nDCG says nothing of the weights
    trained = gain.difference > 0 or recipe.keep == "tuned" or not measured
    if not trained:
        plan.go_back()
        outcome.best_step, result = 0, untuned
    judged = judge_test(plan, untuned.mix, result.mix, trained, on_progress)
    return _write(plan, outcome, result.mix, gain, judged, out, command)


def _write(
    plan: Plan,
    outcome: Outcome,
    mix: Mix,
    gain: Gain | None,
    judged: Evaluation | None,
    out: Path,
    command: str | None,
) -> TunedRanker:
    """Return the tuned ranker, with its model folder, card, record and judgement written under ``out``."""
    gains = [each for each in (gain, None if judged is None else gain_of(judged)) if each is not None]
    first_stage = plan.found.first_stage if mix.first_stage else None
    tuned = TunedRanker(plan.ranker, plan.weights.adapter, first_stage, mix, [as_record(each) for each in gains])
    if still := plan.describe_movement():
        tuned.notes.append(still)
        if command is None:  # a command prints the notes
            warnings.warn(still, MovementWarning, stacklevel=3)
    tuned.save(out / "model")
    write_model_card(out / "model", plan.recipe, plan.data, plan.ranker, mix, plan.found.source, gains)
    write_record(out, plan, outcome, mix, gains, command)
    if judged is not None:
        write_text(out / "results.json", json.dumps(judged.to_dict(), indent=1) + "\n")
    return tuned


def _with(recipe: Recipe, adapter: str | None, loss: str | None, rank: int | None) -> Recipe:
    changed: AdapterSettings = recipe.adapter
    if adapter is not None:
        changed = replace(changed, name=adapter)
    if rank is not None:
        changed = replace(changed, rank=rank)
    wanted = recipe.loss if loss is None else replace(recipe.loss, name=loss)
    return replace(recipe, adapter=changed, loss=wanted)


def _with_dev(data: Collection, seed: int) -> Collection:
    if "train" not in data.splits:
        raise UsageError(
            f"collection {data.name!r} has no training split (it has: {', '.join(data.splits)}); "
            "cross-validate over the judged queries with --folds 5"
        )
    return data if "dev" in data.splits else hold_out_dev(data, 0.15, seed)


def _run_folder(out: Path, resume: bool, overwrite: bool) -> Path:
    begun = (out / "metrics.jsonl").exists() or (out / "model").exists()
    if begun and not (resume or overwrite):
        raise UsageError(
            f"{out} already holds a run; take it up with --resume, replace it with --overwrite, or choose another --out"
        )
    if begun and overwrite and not resume:
        for name in ("checkpoints", "model"):
            shutil.rmtree(out / name, ignore_errors=True)
        (out / "metrics.jsonl").unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    return out


def _report_step(on_progress: StageCallback, progress: Progress) -> None:
    dev = "" if progress.dev is None else f" · dev {progress.dev[MAIN_MEASURE]:.3f}"
    on_progress(f"train · loss {progress.loss:.3f}{dev}", progress.step, progress.steps)


__all__ = ["Outcome", "fit"]
