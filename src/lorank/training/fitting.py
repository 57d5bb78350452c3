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
from typing import Any

import numpy as np
from torch import nn

from lorank.data.collection import Collection, Split
from lorank.data.folds import hold_out_dev
from lorank.data.free_queries import free_queries, targets
from lorank.errors import UsageError
from lorank.lowrank import select_targets, statistics_needed
from lorank.lowrank.budgets.settle import settle
from lorank.lowrank.starts import Statistics
from lorank.ranking import loss as named_loss
from lorank.ranking.consensus.fusion import standardise_run
from lorank.ranking.losses import wants_of
from lorank.ranking.metrics.measures import mean_of
from lorank.ranking.scorers.features import FeatureRanker
from lorank.ranking.scorers.features.trees import TreeRanker
from lorank.ranking.scorers.ranker import TrainableRanker
from lorank.ranking.types import Qrels, Run
from lorank.training.budgeting import JOURNAL, budgeting, chosen_budget, shared_ranks, statistics_of_budget
from lorank.training.calibration import calibrate
from lorank.training.candidates import Candidates, find_candidates
from lorank.training.extras import reference_run, remember_beginning
from lorank.training.hooks import Hook, Progress
from lorank.training.lists import CandidateLists
from lorank.training.loop import MAIN_MEASURE, Loss, Outcome, adamw, train
from lorank.training.mix import ALONE, Mix, choose_mix
from lorank.training.model_card import write_model_card
from lorank.training.own_objective import fit_by_own_objective, refuse_what_has_no_say
from lorank.training.record import write_record
from lorank.training.settings import AdapterSettings, ListSettings, LossSettings, Recipe
from lorank.training.stepping import penalties, stepping, unclipped
from lorank.training.tuned import Learned, TunedRanker, learned_run
from lorank.training.weights import WHOLE, new_modules, resolved, trained_weights

Listen = Callable[[str, int, int], None]


def fit(ranker: TrainableRanker | TreeRanker, data: Collection, adapter: str | None = None, loss: str | None = None,
        rank: int | None = None, out: str | Path = "runs/last", *, recipe: Recipe | None = None,
        candidates: Candidates | None = None, hooks: Sequence[Hook] = (), resume: bool = False,
        overwrite: bool = False, command: str | None = None,
        listen: Listen = lambda what, done, total: None) -> TunedRanker:
    """Train ``ranker`` on the training split of ``data`` and return it tuned, with ``out`` as its run folder.

    ``adapter``, ``loss`` and ``rank`` override the recipe's; ``candidates`` saves finding them again where the
    caller has them. A ranker that learns by an objective of its own (`lorank.training.own_objective`) takes none of
    these but, some of them, a loss. Raises UsageError where the data lacks what training needs, or ``out`` already
    holds a run and neither ``resume`` nor ``overwrite`` is said.
    """
    recipe = _with(recipe or Recipe(), adapter, loss, rank)
    data = _with_dev(data, recipe.seed)
    if not ranker.descends_a_loss:
        refuse_what_has_no_say(ranker, recipe, adapter=adapter, loss=None if ranker.takes_loss else loss, rank=rank,
                               candidates=candidates, hooks=hooks, resume=resume)
        return fit_by_own_objective(ranker, data, _run_folder(Path(out), False, overwrite), recipe, command=command,
                                    listen=listen)
    if isinstance(ranker, FeatureRanker):
        ranker.observe(_training_rows(data))
    recipe = replace(recipe, adapter=resolved(recipe.adapter, ranker))
    budget = chosen_budget(recipe.budget, recipe.adapter)
    recipe = replace(recipe, adapter=budget.adapter)
    out = _run_folder(Path(out), resume, overwrite)
    free = _free_split(data, recipe)
    found = candidates or find_candidates(data, recipe, ranker, free, listen)
    lists, held_out, inputs = _lists_and_inputs(ranker, data, free, found, recipe, listen)
    loss = partial_loss(recipe.loss)
    layers = _adapted_layers(ranker, recipe)
    statistics = _statistics(ranker, inputs, lists, loss, recipe, layers, statistics_of_budget(budget.name), listen)
    ranks = shared_ranks(budget.name, recipe.budget, recipe.adapter, ranker.module, layers, statistics)
    weights = trained_weights(ranker, recipe.adapter, recipe.seed, recipe.training.head_lr, statistics, ranks)
    remember_beginning(ranker, [p for g in weights.parameter_groups() for p in g["params"]], weights.adapter, loss)
    dev = _DevMeasure(Learned(ranker, weights.adapter), data, found, recipe)
    metric_loss = named_loss("lambda")
    budgets_by = budgeting(budget.name, recipe.budget, weights.adapter, out / JOURNAL, recipe.seed, metric_loss)
    steps_by = stepping(recipe.rule, weights.adapter, recipe.adapter.name)
    outcome = train(ranker, inputs, weights, lists, loss, unclipped(recipe.training, steps_by), seed=recipe.seed,
                    folder=out, evaluate=dev, held_out=held_out,
                    hooks=[*filter(None, (steps_by, budgets_by)), *penalties(weights.adapter), *hooks],
                    make_optimizer=steps_by.make_optimizer if steps_by else adamw, resume=resume,
                    listen=partial(_tell, listen))
    if budgets_by is not None:
        settle(weights.adapter)
    mix = dev.choose(listen)
    tuned = TunedRanker(ranker, weights.adapter, found.first_stage if mix.first_stage else None, mix)
    tuned.save(out / "model")
    write_model_card(out / "model", recipe, data, ranker, mix, found.source)
    write_record(out, recipe, data, ranker, weights, outcome, mix, found, command)
    return tuned


def partial_loss(settings: LossSettings) -> Callable[..., Any]:
    """Return the loss that the settings name, with its options checked."""
    return named_loss(settings.name, **settings.options)


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
        raise UsageError(f"collection {data.name!r} has no training split (it has: {', '.join(data.splits)}); "
                         "cross-validate over the judged queries with --folds 5")
    return data if "dev" in data.splits else hold_out_dev(data, 0.15, seed)


def _training_rows(data: Collection) -> np.ndarray:
    rows = [data.position[document] for judged in data.train.qrels.values() for document in judged]
    return np.asarray(data.documents)[rows]


def _run_folder(out: Path, resume: bool, overwrite: bool) -> Path:
    begun = (out / "metrics.jsonl").exists() or (out / "model").exists()
    if begun and not (resume or overwrite):
        raise UsageError(f"{out} already holds a run; take it up with --resume, replace it with --overwrite, "
                         "or choose another --out")
    if begun and overwrite and not resume:
        for name in ("checkpoints", "model"):
            shutil.rmtree(out / name, ignore_errors=True)
        (out / "metrics.jsonl").unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    return out


def _free_split(data: Collection, recipe: Recipe) -> Split | None:
    source = recipe.lists.free_queries
    if source == "none":
        return None
    judged = [name for name in data.splits if name != "train"]
    return free_queries(data, source, exclude=targets(data, judged))


def _lists_and_inputs(ranker: TrainableRanker, data: Collection, free: Split | None, found: Candidates,
                      recipe: Recipe, listen: Listen) -> tuple[CandidateLists, CandidateLists, Any]:
    """Return the training lists, the dev lists that are never trained on, and the texts of both, prepared."""
    split = data.train if free is None else _joined(data.train, free)
    names = [*split.queries, *(query for query in data.dev.queries if query not in split.queries)]
    texts = split.queries | {q: text for q, text in data.dev.queries.items() if q not in split.queries}
    share = ranker.kind == "bi-encoder" if recipe.lists.shared is None else recipe.lists.shared
    positives, negatives = _list_sizes(recipe.lists, found.whole, share)
    offset = found.offset and any(ranker.head_parameters())
    reference = reference_run(recipe.loss.reference, data.train)

    def lists_of(part: Split, run: Run) -> CandidateLists:
        return CandidateLists(
            data, part, None if data.has_features else run, {query: i for i, query in enumerate(names)}, positives,
            negatives, recipe.lists.spare, share, recipe.seed, standardise_run(run) if offset else None,
            wants_of(partial_loss(recipe.loss)), reference)

    listen("prepare texts", 0, 1)
    inputs = ranker.prepare([texts[query] for query in names], data.documents)
    listen("prepare texts", 1, 1)
    return lists_of(split, found.train), lists_of(data.dev, found.dev), inputs


def _adapted_layers(ranker: TrainableRanker, recipe: Recipe) -> dict[str, nn.Module]:
    adapter = recipe.adapter
    if adapter.name in WHOLE:
        return {}
    return select_targets(ranker.module, adapter.targets, adapter.exclude, new_modules(ranker))


def _statistics(ranker: TrainableRanker, inputs: Any, lists: CandidateLists, loss: Loss, recipe: Recipe,
                layers: dict[str, nn.Module], more: frozenset[str], listen: Listen) -> dict[str, Statistics] | None:
    """Run the calibration pass where the adapter's start or the budget reads one."""
    adapter = recipe.adapter
    kinds = more if adapter.name in WHOLE else statistics_needed(adapter.name, adapter.start) | more
    if not kinds:
        return None
    return calibrate(ranker, inputs, lists, loss, recipe.training, layers, kinds, batches=adapter.calibration_batches,
                     seed=recipe.seed, listen=partial(listen, "calibrate"))


def _list_sizes(settings: ListSettings, whole: bool, share: bool) -> tuple[int | None, int | None]:
    if whole:
        return settings.positives, settings.negatives
    positives, negatives = (1, 1) if share else (2, 7)
    return settings.positives or positives, negatives if settings.negatives is None else settings.negatives


def _joined(train: Split, free: Split) -> Split:
    return replace(train, queries=train.queries | free.queries, qrels=train.qrels | free.qrels)


def _tell(listen: Listen, progress: Progress) -> None:
    dev = "" if progress.dev is None else f" · dev {progress.dev[MAIN_MEASURE]:.3f}"
    listen(f"train · loss {progress.loss:.3f}{dev}", progress.step, progress.steps)


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

    def choose(self, listen: Listen) -> Mix:
        """Return the mix that serves all dev queries best."""
        return self._best(list(self.data.dev.queries), None, partial(listen, "score dev"))[0]

    def _best(self, queries: list[str], depth: int | None,
              listen: Callable[[int, int], None] | None) -> tuple[Mix, float]:
        run = {q: _top(self.found.dev[q], depth) for q in queries if self.found.dev.get(q)}
        texts = {q: self.data.dev.queries[q] for q in run}
        qrels: Qrels = {q: self.data.dev.qrels.get(q, {}) for q in queries}
        learned = learned_run(self.ranker, self.data, texts, run, listen)
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
