"""What is decided before the first step of a run: candidates, lists, prepared texts, and what trains and steps.

The order matters: a static budget and some starts read a calibration pass over the training lists, so lists and
prepared texts come before the adapter, and what changes ranks or steps factors comes after it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import isinf
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from lorank.data.collection import Collection, Split
from lorank.data.free_queries import free_queries, targets
from lorank.lowrank import select_targets, statistics_needed
from lorank.lowrank.rates import default_rate
from lorank.lowrank.starts import Statistics
from lorank.progress import StageCallback
from lorank.ranking.consensus.fusion import standardise_run
from lorank.ranking.losses import requirements_of
from lorank.ranking.scorers.bi_encoder import BiEncoder
from lorank.ranking.scorers.features import FeatureRanker
from lorank.ranking.scorers.linear_head import find_head
from lorank.ranking.scorers.ranker import TrainableRanker
from lorank.ranking.types import Run
from lorank.training.beginning import Beginning
from lorank.training.checks import check_compression
from lorank.training.hooks.adaptive_sampling import AdaptiveSampling, make_adaptive_sampling
from lorank.training.hooks.alternation import Alternating, check_opponent, make_alternation
from lorank.training.hooks.budget import (
    JOURNAL,
    Budgeting,
    choose_budget,
    compute_shared_ranks,
    make_budgeting,
    statistics_of_budget,
)
from lorank.training.hooks.compressing import NONE, Compressing, make_compressing
from lorank.training.hooks.debiasing import Debiasing, folds_impressions, make_debiasing
from lorank.training.hooks.hook import Hook
from lorank.training.hooks.rule import Stepping, make_stepping, penalties, without_clipping
from lorank.training.lists.adversarial import adversarial_lists
from lorank.training.lists.binned import binned_lists
from lorank.training.lists.calibration_pass import calibrate
from lorank.training.lists.candidates import Candidates, find_candidates, passing_over
from lorank.training.lists.click_lists import ClickLists
from lorank.training.lists.list_loss import Loss
from lorank.training.lists.lists import CandidateLists
from lorank.training.lists.listwise import check_twins, make_twins, takes_twins
from lorank.training.lists.loss_inputs import OF_THE_HEAD, reference_run, set_reference
from lorank.training.lists.negatives import (
    EASY,
    LIVE,
    LiveLists,
    bottom,
    check_negatives,
    live_lists,
    static_run,
)
from lorank.training.lists.routes import read_routes
from lorank.training.lists.teacher import check_teacher, teacher_run
from lorank.training.loop.session import MakeOptimizer, Session, adamw
from lorank.training.loop.time_budget import TimeBudget
from lorank.training.movement import Movement, WatchMovement
from lorank.training.projecting import check_projection, make_projecting, settle_adapter, without_clipping_in_backward
from lorank.training.rates import ResolvedRate, resolve_rate
from lorank.training.settings import ListSettings, OptimizerSettings, Recipe
from lorank.training.weights import (
    WHOLE,
    AdapterWeights,
    WholeWeights,
    make_weights,
    new_modules,
    resolve_adapter,
    starts_from_nothing,
)

SPARES_NONE = ("cet", "cet-pooling-bias")
"""Debiasers that weigh unjudged candidates of high score themselves, which are then not left out of the lists."""

FORGET, RETAIN = "fisher_forget", "fisher_retain"


@dataclass(frozen=True)
class Plan:
    """A run before its first step.

    ``inputs`` are the texts as the ranker prepared them; ``held_out`` are lists that are never trained on; ``budget``
    moves ranks during the run and ``rule`` steps the factors, None where ranks stay and AdamW steps; ``beginning`` is
    the ranker before training; ``rate`` says where the learning rate comes from, which stands in ``recipe`` as a
    number; ``watch`` measures how far an adapter moves the weights; ``debias`` weighs clicks, None where nothing is
    debiased; ``projecting`` makes a projected optimizer, None where none is named;
    ``compress`` lowers ranks, None where nothing does; ``against`` trains the opponent of a loss that has one, None for
    any other; ``sampling`` moves the bins that adaptive negatives come from; ``added`` are hooks of what is no part of
    the recipe.
    """

    ranker: TrainableRanker
    recipe: Recipe
    data: Collection
    found: Candidates
    lists: CandidateLists
    held_out: CandidateLists
    inputs: Any
    loss: Loss
    weights: AdapterWeights | WholeWeights
    budget: Budgeting | None
    rule: Stepping | None
    beginning: Beginning
    rate: ResolvedRate
    watch: WatchMovement | None
    debias: Debiasing | None = None
    projecting: MakeOptimizer | None = None
    compress: Compressing | None = None
    against: Alternating | None = None
    sampling: AdaptiveSampling | None = None
    added: tuple[Hook, ...] = ()

    @property
    def settings(self) -> OptimizerSettings:
        """The loop's settings, unclipped where the rule must see raw gradients or steps come before all are there."""
        return without_clipping_in_backward(without_clipping(self.recipe.training, self.rule), self.recipe)

    @property
    def make_optimizer(self) -> MakeOptimizer:
        """The projected optimizer, the rule's, or AdamW."""
        return self.projecting or (self.rule.make_optimizer if self.rule else adamw)

    @property
    def has_untuned(self) -> bool:
        """Whether the ranker could rank before training: one that starts from nothing could not."""
        return not starts_from_nothing(self.ranker)

    def go_back(self) -> None:
        """Make the ranker what it was before training."""
        self.weights.restart()
        self.beginning.put_back()

    def pairs_of(self, candidates: Run) -> np.ndarray:
        """Return the candidates' pairs int64 [n, 2] of positions in ``inputs``, in the order of the rows."""
        at, position = self.lists.query_at, self.data.position
        pairs = [(at[query], position[document]) for query, row in candidates.items() for document in row]
        return np.array(pairs, np.int64).reshape(-1, 2)

    def session(
        self,
        folder: Path,
        evaluate: Callable[[], dict[str, float]] | None,
        more: Sequence[Hook] = (),
        steps: int | None = None,
        looks: Sequence[int] | None = None,
        budget: TimeBudget | None = None,
    ) -> Session:
        """Return what the loop trains.

        Args:
            folder: The run folder.
            evaluate: Returns dev measures; None where nothing is looked at.
            more: Hooks behind the plan's own.
            steps: The number of steps; None leaves it to the settings.
            looks: The steps after which dev is looked at; None leaves them to the settings.
            budget: The wall-clock time of the run, where it is bounded.
        """
        return Session(
            self.ranker,
            self.inputs,
            self.weights,
            self.lists,
            self.loss,
            self.settings if steps is None else replace(self.settings, steps=steps),
            self.recipe.seed,
            folder,
            evaluate,
            self.held_out,
            self.hooks(more),
            self.make_optimizer,
            looks,
            budget,
        )

    @property
    def movement(self) -> Movement | None:
        """How far the run moved the weights, where one matrix a layer stands for the update."""
        return None if self.watch is None else self.watch.last

    def describe_movement(self) -> str | None:
        """Return what to say of an update that hardly moved the weights, None where there is nothing to say."""
        if self.movement is None:
            return None
        recipe = self.recipe
        own = default_rate(recipe.adapter.name, start=recipe.adapter.start, rule=recipe.rule.name)
        return self.movement.describe(recipe.adapter.name, self.rate.lr, own.value)

    def describe_rule(self) -> list[str]:
        """Return what the rule says of the run, where it says anything."""
        said = None if self.rule is None else self.rule.rule.describe()
        return [] if said is None else [said]

    def hooks(self, more: Sequence[Hook] = ()) -> list[Hook]:
        """Return the hooks of the rule, the budget, the forms' penalties and the movement, and ``more`` after them."""
        return [
            *filter(None, (self.rule, self.budget, self.compress)),
            *penalties(self.weights.adapter),
            *filter(None, [self.watch, self.debias, self.against, self.sampling]),
            *self.added,
            *more,
        ]


def resolve_recipe(ranker: TrainableRanker, data: Collection, recipe: Recipe) -> tuple[Recipe, str]:
    """Return the recipe with "auto" decided, and the budget's name; a feature ranker sees its training rows.

    Raises UsageError where adapter and budget do not go together.
    """
    check_projection(recipe)
    recipe = settle_adapter(recipe)
    if isinstance(ranker, FeatureRanker):
        ranker.observe(_training_rows(data))
    adapter = recipe.adapter
    if recipe.compress.name != NONE and adapter.name == "auto":
        adapter = replace(adapter, name="full")
    check_compression(replace(recipe, adapter=adapter))
    budget = choose_budget(recipe.budget, resolve_adapter(adapter, ranker))
    return replace(recipe, adapter=budget.adapter), budget.name


def build_plan(
    ranker: TrainableRanker,
    data: Collection,
    recipe: Recipe,
    budget: str,
    out: Path,
    candidates: Candidates | None,
    on_progress: StageCallback,
) -> Plan:
    """Return the plan of a run, with the adapter attached to the ranker.

    Args:
        ranker: The ranker that will learn.
        data: The collection; it has a dev split.
        recipe: The recipe that `resolve_recipe` returned.
        budget: The budget's name that `resolve_recipe` returned.
        out: The run folder, where a budget writes its journal.
        candidates: First-stage candidates, where the caller has them already.
        on_progress: Called as stages proceed.

    Raises:
        UsageError: Where rule, loss and adapter do not go together.
    """
    check_negatives(recipe, ranker, data)
    check_teacher(recipe)
    rate = resolve_rate(recipe, budget, ranker)
    recipe = rate.applied(recipe)
    free = free_split(data, recipe)
    found = candidates or find_candidates(data, recipe, ranker, free, on_progress)
    loss, debias = make_debiasing(recipe, data)
    if OF_THE_HEAD in requirements_of(loss):
        find_head(ranker)
    adapter, routes = read_routes(recipe.adapter, data.train)
    recipe = replace(recipe, adapter=adapter)
    check_twins(loss, ranker, data, recipe)
    check_opponent(loss, ranker, recipe)
    if takes_twins(loss):
        assert isinstance(ranker, BiEncoder)
        split = data.train if free is None else _join(data.train, free)
        twins, rows = make_twins(ranker, data, split, found.train, recipe)
        found = replace(found, train=found.train | rows)
        free = twins if free is None else _join(free, twins)
    lists, held_out, inputs = lists_and_inputs(ranker, data, free, found, recipe, loss, on_progress)
    if routes is not None:
        lists = replace(lists, routes=routes.of(data.train))
        held_out = replace(held_out, routes=routes.of(data.dev))
    layers = _select_layers(ranker, recipe)
    more = statistics_of_budget(budget)
    statistics = _statistics(ranker, inputs, lists, held_out, loss, recipe, layers, more, on_progress)
    ranks = compute_shared_ranks(budget, recipe.budget, recipe.adapter, ranker.module, layers, statistics)
    compress = make_compressing(recipe.compress, ranker.module, new_modules(ranker), recipe.seed)
    weights = make_weights(
        ranker, recipe.adapter, recipe.seed, recipe.training.head_lr, statistics, ranks, recipe.start.options
    )
    beginning = Beginning(
        [p for g in weights.parameter_groups() for p in g["params"]],
        weights.adapter,
        None if compress is None else compress.compression,
    )
    set_reference(ranker, beginning, loss)
    against = make_alternation(loss, ranker, data, lists, recipe)
    if against is not None:
        lists, held_out = (replace(each, opponent=against.opponent.scores) for each in (lists, held_out))
    moving = make_budgeting(budget, recipe.budget, weights.adapter, out / JOURNAL, recipe.seed)
    steps_by = make_stepping(recipe.rule, weights.adapter, recipe.adapter.name)
    projecting = make_projecting(recipe, ranker)
    watch = None if weights.adapter is None else WatchMovement(weights.adapter)
    return Plan(
        ranker,
        recipe,
        data,
        found,
        lists,
        held_out,
        inputs,
        loss,
        weights,
        moving,
        steps_by,
        beginning,
        rate,
        watch,
        debias,
        projecting,
        compress,
        against,
        make_adaptive_sampling(lists, data.dev, recipe.seed),
    )


def _training_rows(data: Collection) -> np.ndarray:
    rows = [data.position[document] for judged in data.train.qrels.values() for document in judged]
    return np.asarray(data.documents)[rows]


def free_split(data: Collection, recipe: Recipe) -> Split | None:
    """Return the free queries that a recipe adds to the training split, None where it adds none."""
    source = recipe.lists.free_queries
    if source == "none":
        return None
    judged = [name for name in data.splits if name != "train"]
    kept = targets(data, judged) if recipe.lists.free_documents == "unjudged" else frozenset()
    return free_queries(data, source, exclude=kept)


def lists_and_inputs(
    ranker: TrainableRanker,
    data: Collection,
    free: Split | None,
    found: Candidates,
    recipe: Recipe,
    loss: Loss,
    on_progress: StageCallback,
) -> tuple[CandidateLists, CandidateLists, Any]:
    """Return the training lists, the dev lists that are never trained on, and the texts of both, prepared.

    Args:
        ranker: The ranker that reads them.
        data: The collection with the dev split.
        free: The free training queries, None where there are none.
        found: The candidates of both splits.
        recipe: The recipe, whose lists they are.
        loss: The loss, which may require more of a list.
        on_progress: It receives the stage, the number of units done and their total.
    """
    split = data.train if free is None else _join(data.train, free)
    names = [*split.queries, *(query for query in data.dev.queries if query not in split.queries)]
    texts = split.queries | {q: text for q, text in data.dev.queries.items() if q not in split.queries}
    live = recipe.lists.negatives_from in LIVE
    apart = live or recipe.lists.teacher is not None or "opponent" in requirements_of(loss)
    share = ranker.kind == "bi-encoder" and not apart if recipe.lists.shared is None else recipe.lists.shared
    positives, negatives = _list_sizes(recipe.lists, found.whole, share)
    stands = found.has_first_stage and any(ranker.head_parameters())
    reference = reference_run(recipe.loss.reference, data.train, passing_over(recipe))

    def lists_of(part: Split, run: Run) -> CandidateLists:
        kind: Callable[..., CandidateLists] = CandidateLists
        if part.impressions is not None:
            folded = folds_impressions(recipe, part.impressions)
            kind = partial(ClickLists, impressions=recipe.lists.impressions or 1, folded=folded)
        return kind(
            data,
            part,
            None if data.has_features else run,
            {query: i for i, query in enumerate(names)},
            positives,
            negatives if part.impressions is None else recipe.lists.negatives,
            None if recipe.debias.name in SPARES_NONE or isinf(recipe.lists.spare) else recipe.lists.spare,
            share,
            recipe.seed,
            standardise_run(run) if stands else None,
            requirements_of(loss),
            reference,
        )

    on_progress("prepare texts", 0, 1)
    inputs = ranker.prepare([texts[query] for query in names], data.documents)
    on_progress("prepare texts", 1, 1)
    if isinstance(ranker, BiEncoder) and ranker.adapted == "queries":
        every = np.arange(len(inputs.documents))
        vectors = ranker.vectors_of(inputs.documents, every, partial(on_progress, "encode documents once"))
        inputs = replace(inputs, vectors=vectors)
    source, run = recipe.lists.negatives_from, found.train
    if source == "static":
        assert isinstance(ranker, BiEncoder)
        place = {query: i for i, query in enumerate(names)}
        run = static_run(ranker, inputs, data, split, place, recipe.lists.depth)
    elif source == "bottom":
        run = bottom(run, recipe.lists.depth, max(EASY, negatives or 0), split.qrels)
    lists, held_out = lists_of(split, run), lists_of(data.dev, found.dev)
    lists = replace(lists, teacher=teacher_run(recipe, data, split, run, on_progress))
    if live:
        assert isinstance(ranker, BiEncoder)
        lists = live_lists(replace(lists, positives=recipe.lists.positives), ranker, inputs, recipe.lists.negatives)
    if source == "adversarial":
        assert isinstance(lists, LiveLists)
        lists = adversarial_lists(lists, recipe.lists.depth, recipe.lists.negatives)
    elif source == "adaptive":
        assert isinstance(lists, LiveLists)
        lists = binned_lists(lists, recipe.lists.depth, recipe.lists.negatives)
    return lists, held_out, inputs


def _select_layers(ranker: TrainableRanker, recipe: Recipe) -> dict[str, nn.Module]:
    adapter = recipe.adapter
    if adapter.name in WHOLE:
        return {}
    return select_targets(ranker.module, adapter.targets, adapter.exclude, new_modules(ranker))


def _statistics(
    ranker: TrainableRanker,
    inputs: Any,
    lists: CandidateLists,
    held_out: CandidateLists,
    loss: Loss,
    recipe: Recipe,
    layers: dict[str, nn.Module],
    more: frozenset[str],
    on_progress: StageCallback,
) -> dict[str, Statistics] | None:
    """Run the calibration pass where the adapter's start or the budget reads one.

    What a start reads of data to forget is seen on the training lists, of data to retain on the dev lists.
    """
    adapter = recipe.adapter
    kinds = more if adapter.name in WHOLE else statistics_needed(adapter.name, adapter.start) | more

    def seen_on(source: CandidateLists, wanted: frozenset[str]) -> dict[str, Statistics]:
        return calibrate(
            ranker,
            inputs,
            source,
            loss,
            recipe.training,
            layers,
            wanted,
            batches=adapter.calibration_batches,
            seed=recipe.seed,
            on_progress=partial(on_progress, "calibrate"),
        )

    if not kinds:
        return None
    plain = kinds - {FORGET, RETAIN}
    found = {path: dict(own) for path, own in seen_on(lists, plain).items()} if plain else {path: {} for path in layers}
    for kind, source in ((FORGET, lists), (RETAIN, held_out)):
        if kind in kinds:
            for path, own in seen_on(source, frozenset({"fisher"})).items():
                found[path][kind] = own["fisher"]
    return dict(found)


def _list_sizes(settings: ListSettings, whole: bool, share: bool) -> tuple[int | None, int | None]:
    if whole:
        return settings.positives, settings.negatives
    positives, negatives = (1, 1) if share else (2, 7)
    return settings.positives or positives, negatives if settings.negatives is None else settings.negatives


def _join(train: Split, free: Split) -> Split:
    return replace(train, queries=train.queries | free.queries, qrels=train.qrels | free.qrels)
