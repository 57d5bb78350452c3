"""From a recipe and a collection to a client that is ready for its first message."""

from dataclasses import replace
from pathlib import Path

import torch

from lorank.data.collection import Collection
from lorank.data.folds import hold_out_dev
from lorank.errors import UsageError
from lorank.federated.aggregators.core.aggregator import Aggregator
from lorank.federated.client import Client
from lorank.federated.layout import Layout
from lorank.federated.planned_ranks import ChooseRanks
from lorank.federated.privacy import Privacy
from lorank.progress import StageCallback
from lorank.ranking.scorers.ranker import TrainableRanker
from lorank.training.begin_run import step_cost
from lorank.training.dev import DevMeasure, tokens_read
from lorank.training.dev_sample import plan_looks
from lorank.training.open_recipe import open_recipe_base
from lorank.training.plan import Plan, build_plan, resolve_recipe
from lorank.training.recipe import RecipeFile
from lorank.training.weights import AdapterWeights


def open_client(
    name: str,
    recipe: RecipeFile,
    data: Collection,
    aggregator: Aggregator,
    folder: Path,
    *,
    steps: int,
    privacy: Privacy | None = None,
    ranks: ChooseRanks | None = None,
    on_progress: StageCallback = lambda what, done, total: None,
) -> Client:
    """Return a client that is ready for its first message.

    Args:
        name: Its name in the federation.
        recipe: How it trains; adapter, rank and seed must be the same for all clients.
        data: Its collection, with a training split.
        aggregator: The method.
        folder: Where it keeps its state.
        steps: How many steps it will train in all, by which its look at dev is sized.
        privacy: What is done to what leaves it.
        ranks: Returns the rank of each of the layers that would be adapted; None takes the recipe's for all.
        on_progress: It receives stages.

    Raises:
        UsageError: If the ranker cannot be federated: it has no adapter, or one whose ranks move.
    """
    data = _with_dev(data, recipe.seed)
    ranker = open_recipe_base(recipe, data)
    if not ranker.trained_by_loop or not isinstance(ranker, TrainableRanker):
        raise UsageError(f"a {ranker.kind} learns by an objective of its own, and has no adapter to federate")
    settled, budget = resolve_recipe(ranker, data, replace(recipe, judge_test=False))
    plan = build_plan(ranker, data, settled, budget, folder, None, on_progress)
    if not isinstance(plan.weights, AdapterWeights):
        raise UsageError(f"--adapter {settled.adapter.name}: a federation trains a low-rank adapter, such as lora")
    if plan.budget is not None or plan.compress is not None:
        raise UsageError("ranks that move in training cannot be federated; take --budget none")
    if ranks is not None:
        plan = _at_ranks(plan, ranks)
    assert plan.weights.adapter is not None
    aggregator.check(Layout.of(plan.weights.adapter))
    cost = lambda run: tokens_read(plan, plan.pairs_of(run), whole=True)  # noqa: E731
    looks = plan_looks(plan.data, plan.found, plan.recipe, steps, step_cost(plan), cost)
    return Client(name, plan, DevMeasure(plan, looks.sample), aggregator, folder, privacy, fresh_noise())


def fresh_noise() -> torch.Generator:
    """Return a generator seeded by the operating system, for noise that no seed of a recipe may repeat."""
    generator = torch.Generator()
    generator.seed()
    return generator


def _at_ranks(plan: Plan, ranks: ChooseRanks) -> Plan:
    """Return the plan with the adapter attached anew at other ranks."""
    weights, recipe = plan.weights, plan.recipe
    if plan.rule is not None:
        raise UsageError(f"--rule {recipe.rule.name}: methods that plan ranks per device step by AdamW; leave it out")
    assert isinstance(weights, AdapterWeights)
    chosen = ranks(list(weights.adapter.layers))
    weights.adapter.detach()
    again = AdapterWeights(plan.ranker, recipe.adapter, recipe.seed, recipe.training.head_lr, None, chosen)
    return replace(plan, weights=again, watch=None)


def _with_dev(data: Collection, seed: int) -> Collection:
    if "train" not in data.splits:
        raise UsageError(f"collection {data.name!r} has no training split, and a client of a federation trains")
    return data if "dev" in data.splits else hold_out_dev(data, 0.15, seed)
