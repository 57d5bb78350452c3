"""What a cascade trains: the recipe of its bi-encoder and that of its cross-encoder, checked before anything runs.

The bi-encoder is trained by the recipe itself. The cross-encoder has a recipe of its own, whose defaults are below and
whose other settings stand under ``cross``:

    [cascade]
    enabled = true
    [cross.training]
    lr = 5e-4

Its new head steps at ``cross.training.head_lr``, whatever the rate of the factors is.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lorank.errors import UsageError
from lorank.training.checks import check_names
from lorank.training.recipe import RecipeFile, override
from lorank.training.settings import (
    HEAD_RATE,
    CascadeSettings,
    FirstStageSettings,
    ListSettings,
    OptimizerSettings,
    Recipe,
)

DEFAULT_BASE = "minilm"
"""The base of both rankers where none is given."""
BI_ENCODER, CROSS_ENCODER = "bi-encoder", "cross-encoder"
"""The two kinds, and what the run folder calls the runs of the two steps."""
GRID = tuple(g for g in FirstStageSettings().grid if math.isfinite(g))
"""The weights of the cross-encoder's score that dev chooses from; it corrects, and never stands alone."""
OF_THE_CASCADE = {
    "data": "the cascade has one collection; give --data",
    "out": "the cascade has one run folder; give --out",
    "language": "BM25 of the cascade has one; give --language",
    "cascade": "a cascade has two rankers; set cascade.KEY",
    "cross": "a cascade has two rankers",
    "keep": "dev decides what is kept; see cascade.least_gain",
    "judge_test": "the cascade is judged as a whole; give --test or --no-test",
    "lists.depth": "cascade.depth says how many documents it reads",
    "first_stage.source": "its first stage is the bi-encoder's mix",
}
"""Settings that stand under ``cross`` in vain, with what is meant."""


def bi_recipe(plan: RecipeFile) -> RecipeFile:
    """Return the recipe of the cascade's bi-encoder, as `lorank train` alone would take it."""
    return replace(plan, cascade=CascadeSettings(), cross={}, kind=BI_ENCODER, base=plan.base or DEFAULT_BASE)


def cross_recipe(plan: RecipeFile) -> RecipeFile:
    """Return the recipe of the cascade's cross-encoder.

    Raises:
        RecipeError: For a key or a value under ``cross`` that recipes do not have.

    >>> plan = RecipeFile(base="minilm", seed=3, cross={"training": {"lr": 1e-3}})
    >>> made = cross_recipe(plan)
    >>> made.kind, made.base, made.seed, made.training.lr, made.lists.depth
    ('cross-encoder', 'minilm', 3, 0.001, 20)
    """
    begun = RecipeFile(
        data=plan.data,
        base=plan.base or DEFAULT_BASE,
        kind=CROSS_ENCODER,
        seed=plan.seed,
        judge_test=False,
        negative=plan.negative,
        skip_bad=plan.skip_bad,
        language=plan.language,
        lists=ListSettings(depth=plan.cascade.depth, free_documents=plan.lists.free_documents),
        training=OptimizerSettings(precision=plan.training.precision, head_lr=HEAD_RATE),
        first_stage=FirstStageSettings(grid=GRID),
    )
    return override(begun, dict(flatten(plan.cross)), "cross")


def recipes_of(plan: RecipeFile) -> list[RecipeFile]:
    """Return the recipes of the runs that a recipe stands for: of a cascade both, else itself."""
    return [bi_recipe(plan), cross_recipe(plan)] if plan.cascade.enabled else [plan]


def flatten(table: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of tables within tables by their dotted keys.

    >>> dict(flatten({"seed": 1, "training": {"lr": 0.5}}))
    {'seed': 1, 'training.lr': 0.5}
    """
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def check_cascade(plan: RecipeFile) -> None:
    """Raise UsageError for what a cascade cannot be made of; nothing is read and no model opened.

    Args:
        plan: The recipe, whether it makes a cascade or not.
    """
    if not plan.cascade.enabled:
        if plan.cross:
            first = next(flatten(plan.cross), ("", None))[0]
            raise UsageError(f"cross.{first}: only a cascade has a cross-encoder of its own; give --cascade")
        return
    _refuse_others(plan)
    for key, _ in flatten(plan.cross):
        for taken, meant in OF_THE_CASCADE.items():
            if key == taken or key.startswith(f"{taken}."):
                raise UsageError(f"cross.{key}: {meant}")
    cross = cross_recipe(plan)
    if cross.kind == BI_ENCODER:
        raise UsageError("cross.kind: a bi-encoder is the cascade's first ranker; give cross-encoder or causal")
    _refuse_methods(cross, "cross.")
    if not all(math.isfinite(g) for g in cross.first_stage.grid) or 0.0 not in cross.first_stage.grid:
        raise UsageError("cross.first_stage.grid: a correction has finite weights, and 0 among them, which drops it")
    if cross.lists.free_queries not in ("none", plan.lists.free_queries):
        raise UsageError(
            f"cross.lists.free_queries is {cross.lists.free_queries}: the bi-encoder ranks its free queries first; "
            f"give --free-queries {cross.lists.free_queries} too"
        )
    if plan.training.minutes is not None and cross.training.minutes is None:
        raise UsageError(
            "--minutes bounds the bi-encoder's run alone; bound the cross-encoder's too, with --set "
            "cross.training.minutes=10"
        )
    check_names(cross, recipe_file=Path("cross"))


def _refuse_others(plan: RecipeFile) -> None:
    """Raise UsageError for settings of the recipe that make no sense with a cascade."""
    if plan.kind not in (None, BI_ENCODER):
        raise UsageError(
            f"--kind {plan.kind}: a cascade begins with a bi-encoder; leave it out, and set cross.kind for what follows"
        )
    for given, flag in ((plan.then, "--then"), (plan.clicks, "--clicks")):
        if given:
            raise UsageError(f"{flag}: a cascade learns one collection from its judgments; leave out one of the two")
    _refuse_methods(plan, "")


def _refuse_methods(recipe: Recipe, prefix: str) -> None:
    """Raise UsageError for methods whose runs keep their weights whatever dev says, or end in no scores."""
    for name, own in (("policy", recipe.policy.name), ("compress", recipe.compress.name)):
        if own != "none":
            raise UsageError(
                f"{prefix}{name}.name is {own}: in a cascade dev decides whether a ranker's scores are added; leave it "
                "out, or train that ranker alone"
            )
    if recipe.keep != "better":
        raise UsageError(f'{prefix}keep is "{recipe.keep}": a cascade keeps what dev says is better; leave it out')
