"""How a run uses a projected optimizer of `lowrank.projected`: which matrices it projects, at which rank and rate.

The layers that `adapter.targets` names are projected; heads that the checkpoint did not bring, embeddings, biases and
normalisations step plainly, by the optimizer's inner rule.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from lorank.errors import UsageError
from lorank.lowrank.projected import ProjectedOptimizer, Projection, check_axes, optimizer_preset, with_options
from lorank.lowrank.projected.parameters import matrices_of
from lorank.ranking.scorers.ranker import TrainableRanker
from lorank.training.loop.session import MakeOptimizer
from lorank.training.settings import AdapterSettings, OptimizerSettings, ProjectionSettings, Recipe
from lorank.training.weights import new_modules

PLAIN = ("auto", "adamw")
"""Names that mean AdamW, or the rule of the adapter."""


def is_projected(settings: ProjectionSettings) -> bool:
    """Return whether the settings name a projected optimizer.

    >>> is_projected(ProjectionSettings()), is_projected(ProjectionSettings("galore"))
    (False, True)
    """
    return settings.name not in PLAIN


def check_projection(recipe: Recipe) -> None:
    """Raise UsageError where the optimizer of a recipe does not go with its other choices."""
    settings, name = recipe.optimizer, recipe.optimizer.name
    if not is_projected(settings):
        if settings.options or settings.rank is not None:
            raise UsageError(
                f"optimizer {name!r} has neither a rank nor options; name a projected one, such as --optimizer galore"
            )
        return
    if recipe.adapter.name not in ("auto", "full"):
        raise UsageError(
            f"optimizer {name!r} projects the gradients of whole weights, and adapter {recipe.adapter.name!r} does not "
            "train them; use --adapter full, or leave the optimizer out"
        )
    if recipe.rule.name not in PLAIN:
        raise UsageError(
            f"rule {recipe.rule.name!r} steps the factors of an adapter, and optimizer {name!r} whole weights; leave "
            "one of them out"
        )
    projection(settings)


def projection(settings: ProjectionSettings) -> Projection:
    """Return the optimizer's point on the axes, with the options of the settings."""
    options = with_options(settings.name, optimizer_preset(settings.name), dict(settings.options))
    check_axes(options)
    return options


def settle_adapter(recipe: Recipe) -> Recipe:
    """Return the recipe, whose adapter "auto" is "full" where a projected optimizer is named."""
    if is_projected(recipe.optimizer) and recipe.adapter.name == "auto":
        return replace(recipe, adapter=replace(recipe.adapter, name="full"))
    return recipe


def rank_of_optimizer(settings: ProjectionSettings, adapter: AdapterSettings) -> int | None:
    """Return the stated rank, or that of the adapter's section, or the preset's; None is a quarter of each side."""
    stated = adapter.rank if settings.rank is None else settings.rank
    return projection(settings).rank if stated is None else stated


def make_projecting(recipe: Recipe, ranker: TrainableRanker) -> MakeOptimizer | None:
    """Return what makes the optimizer of the run, None where the recipe names no projected one.

    Raises:
        UsageError: Where stepping in the backward pass cannot be, and for a rank above a matrix's shorter side.
    """
    settings = recipe.optimizer
    if not is_projected(settings):
        return None
    options, adapter = projection(settings), recipe.adapter
    if options.in_backward and (recipe.training.accumulate > 1 or Accelerator().num_processes > 1):
        raise UsageError(
            "in_backward steps each parameter at once, so that neither accumulated gradients nor several processes can "
            "be summed; set training.accumulate = 1 in one process, or leave it out"
        )
    inside = matrices_of(ranker.module, adapter.targets, adapter.exclude, new_modules(ranker))
    names = {id(parameter): name for name, parameter in ranker.module.named_parameters()}
    rank = rank_of_optimizer(settings, adapter)

    def make(groups: list[dict[str, Any]], loop: OptimizerSettings) -> torch.optim.Optimizer:
        return ProjectedOptimizer(
            [part for group in groups for part in divide_group(group, inside, names)],
            options,
            lr=loop.rate,
            rank=rank,
            betas=loop.betas,
            weight_decay=loop.weight_decay,
            seed=recipe.seed,
        )

    return make


def divide_group(group: Mapping[str, Any], inside: set[int], names: Mapping[int, str]) -> list[dict[str, Any]]:
    """Return the group as two: matrices that are projected, and what steps plainly."""

    def named(parameters: list[nn.Parameter]) -> list[tuple[str, nn.Parameter]]:
        return [(names[id(parameter)], parameter) for parameter in parameters]

    matrices = [parameter for parameter in group["params"] if id(parameter) in inside]
    others = [parameter for parameter in group["params"] if id(parameter) not in inside]
    parts = [{**group, "params": named(matrices), "strict": True}, {**group, "params": named(others), "plain": True}]
    return [part for part in parts if part["params"]]


def without_clipping_in_backward(settings: OptimizerSettings, recipe: Recipe) -> OptimizerSettings:
    """Return the settings without clipping where parameters step before all gradients are there."""
    in_backward = is_projected(recipe.optimizer) and projection(recipe.optimizer).in_backward
    return replace(settings, clip=None) if in_backward else settings
