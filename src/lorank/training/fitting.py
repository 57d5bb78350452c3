"""`fit`: one call from a ranker and a collection to a tuned ranker that starts at the first stage.

1. first-stage candidates for the training and dev queries; 2. texts are prepared once; 3. the adapter is
attached, after a calibration pass where its start reads one; 4. the loop runs, dev nDCG@10 deciding which weights
are kept; 5. dev decides how much of the learned score is added to the first stage's; 6. the model folder is written
and re-opened.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from lorank.data.collection import Collection
from lorank.data.folds import hold_out_dev
from lorank.errors import UsageError
from lorank.lowrank.budgets.core.settle import settle
from lorank.progress import StageCallback
from lorank.ranking.consensus.fusion import standardise_run
from lorank.ranking.metrics.measures import mean_of
from lorank.ranking.scorers.features.trees import TreeRanker
from lorank.ranking.scorers.ranker import TrainableRanker
from lorank.ranking.types import Qrels
from lorank.training.hooks.hook import Hook, Progress
from lorank.training.lists.candidates import Candidates
from lorank.training.loop.loop import MAIN_MEASURE, Outcome, train
from lorank.training.model_card import write_model_card
from lorank.training.plan import Plan, build_plan, resolve_recipe
from lorank.training.record import write_record
from lorank.training.self_fitting import check_unused_settings, fit_by_own_objective
from lorank.training.settings import AdapterSettings, Recipe
from lorank.tuned.mix import ALONE, Mix, choose_mix
from lorank.tuned.ranker import Learned, TunedRanker, learned_run


def fit(
    ranker: TrainableRanker | TreeRanker,
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

    ``adapter``, ``loss`` and ``rank`` override the recipe's; ``candidates`` saves finding them again where the
    caller has them. A ranker that learns by an objective of its own (`lorank.training.self_fitting`) takes none of
    these but, some of them, a loss. Raises UsageError where the data lacks what training needs, or ``out`` already
    holds a run and neither ``resume`` nor ``overwrite`` is said.
    """
    recipe = _with(recipe or Recipe(), adapter, loss, rank)
    data = _with_dev(data, recipe.seed)
    if not ranker.trained_by_loop:
        check_unused_settings(
            ranker,
            recipe,
            adapter=adapter,
            loss=None if ranker.takes_loss else loss,
            rank=rank,
            candidates=candidates,
            hooks=hooks,
            resume=resume,
        )
        return fit_by_own_objective(
            ranker, data, _run_folder(Path(out), False, overwrite), recipe, command=command, on_progress=on_progress
        )
    recipe, budget = resolve_recipe(ranker, data, recipe)
    out = _run_folder(Path(out), resume, overwrite)
    plan = build_plan(ranker, data, recipe, budget, out, candidates, on_progress)
    dev = _DevMeasure(Learned(ranker, plan.weights.adapter), data, plan.found, plan.recipe)
    outcome = train(plan.session(out, dev, hooks), on_progress=partial(_report_step, on_progress), resume=resume)
    if plan.budget is not None:
        settle(plan.weights.adapter)
    mix = dev.choose(on_progress)
    return _write(ranker, plan, outcome, mix, out, command)


def _write(
    ranker: TrainableRanker, plan: Plan, outcome: Outcome, mix: Mix, out: Path, command: str | None
) -> TunedRanker:
    """Return the tuned ranker, with its model folder, card and record written under ``out``."""
    found, adapter = plan.found, plan.weights.adapter
    tuned = TunedRanker(ranker, adapter, found.first_stage if mix.first_stage else None, mix)
    tuned.save(out / "model")
    write_model_card(out / "model", plan.recipe, plan.data, ranker, mix, found.source)
    write_record(out, plan.recipe, plan.data, ranker, plan.weights, outcome, mix, found, command)
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


@dataclass
class _DevMeasure:
    """Dev nDCG@10 of the best mix over a sample of dev queries during training, and over all at the end."""

    ranker: Learned
    data: Collection
    found: Candidates
    recipe: Recipe

    def __call__(self) -> dict[str, float]:
        settings = self.recipe.training
        queries = _sample(list(self.data.dev.queries), settings.evaluation_queries, self.recipe.seed)
        mix, alone = self._best(queries, settings.evaluation_depth, None)
        return {MAIN_MEASURE: max(value for _, value in mix.curve), f"{MAIN_MEASURE} alone": alone}

    def choose(self, on_progress: StageCallback) -> Mix:
        """Return the mix that serves all dev queries best."""
        return self._best(list(self.data.dev.queries), None, partial(on_progress, "score dev"))[0]

    def _best(
        self, queries: list[str], depth: int | None, on_progress: Callable[[int, int], None] | None
    ) -> tuple[Mix, float]:
        run = {q: _top(self.found.dev[q], depth) for q in queries if self.found.dev.get(q)}
        texts = {q: self.data.dev.queries[q] for q in run}
        qrels: Qrels = {q: self.data.dev.qrels.get(q, {}) for q in queries}
        learned = learned_run(self.ranker, self.data, texts, run, on_progress)
        alone = mean_of(learned, qrels, MAIN_MEASURE)
        if not self.found.offset:
            return replace(ALONE, curve=[(float("inf"), alone)]), alone
        measure = partial(mean_of, qrels=qrels, measure=MAIN_MEASURE)
        return choose_mix(standardise_run(run), learned, self.recipe.offset.grid, measure), alone


def _sample(queries: list[str], count: int | None, seed: int) -> list[str]:
    if count is None or count >= len(queries):
        return queries
    chosen = np.random.default_rng([seed, 2]).choice(len(queries), count, replace=False)
    return [queries[i] for i in sorted(chosen)]


def _top(row: dict[str, float], depth: int | None) -> dict[str, float]:
    return dict(sorted(row.items(), key=lambda item: (item[1], item[0]), reverse=True)[:depth])


__all__ = ["Outcome", "fit"]
