"""Everything that decides a pretraining run, as plain dataclasses; a recipe file has the same sections and keys."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from lorank import index
from lorank.errors import DataError, UsageError
from lorank.training.checks import nearest
from lorank.training.recipe import RecipeError
from lorank.training.settings import OptimizerSettings, Option

DENSE = "dense"
"""The method that leaves every layer as it is."""
DENSE_RATE = 1e-3
"""The rate of dense layers that start from nothing."""
KEPT = 0.1
"""The share of a method's rate that is taken where the weights were trained before."""


@dataclass(frozen=True)
class FactoredSettings:
    """Which layers are low rank, and how.

    ``name`` is "dense" or a kind of factored layer. ``rank`` is a whole number, a share below 1 of each layer's
    break-even rank, or the rank of each layer by path. ``start`` None is "svd" where the base is trained and the kind
    has it, else the kind's first.
    """

    name: str = DENSE
    rank: float | dict[str, int] = 0.5
    start: str | None = None
    targets: str | list[str] = "all-linear"
    exclude: list[str] = field(default_factory=list)
    options: dict[str, Option] = field(default_factory=dict)


@dataclass(frozen=True)
class MaskingSettings:
    """What is read and what is masked.

    Documents are cut into windows of at most ``max_length`` tokens. Of each window's tokens ``share`` are predicted: of
    these 80 in 100 are masked, 10 are another token and 10 are left. ``held_out`` is the share of documents on which
    the loss is measured and nothing is learned. ``vocabulary`` bounds the tokenizer that is trained where the base has
    none.
    """

    max_length: int = 128
    share: float = 0.15
    held_out: float = 0.05
    vocabulary: int = 8000


@dataclass(frozen=True)
class PretrainRecipe:
    """A whole pretraining run: texts, base, layers, masking, loop, seed."""

    texts: str | None = None
    base: str | None = None
    out: str | None = None
    seed: int = 0
    factored: FactoredSettings = field(default_factory=FactoredSettings)
    masking: MaskingSettings = field(default_factory=MaskingSettings)
    training: OptimizerSettings = field(default_factory=lambda: OptimizerSettings(batch_size=32))


def read_pretrain_recipe(path: str | Path) -> PretrainRecipe:
    """Read a recipe of `lorank pretrain` in TOML.

    Raises:
        DataError: Naming the key where something is unknown or of the wrong type.
    """
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(
            path, None, f"not valid TOML: {error}", "see `lorank pretrain --help` for an example"
        ) from error
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= {f"{key}.{name}": inner for name, inner in value.items()} if isinstance(value, dict) else {key: value}
    return override_pretrain(PretrainRecipe(), flat, str(path))


def override_pretrain(recipe: PretrainRecipe, given: Mapping[str, Any], place: str = "--set") -> PretrainRecipe:
    """Return the recipe with settings in place of its own, as section.key; an option of the method may stand bare.

    Raises:
        RecipeError: For a key that there is none of, with the nearest, and for a value of the wrong type.

    >>> override_pretrain(PretrainRecipe(), {"factored.name": "sltrain", "factored.delta": 0.1}).factored.options
    {'delta': 0.1}
    """
    sections: dict[str, Any] = {each.name: getattr(recipe, each.name) for each in fields(recipe)}
    for setting, value in given.items():
        section, _, key = setting.rpartition(".")
        section, _, inner = section.partition(".")
        part: Any = sections.get(section) if section else recipe
        if not hasattr(part, "__dataclass_fields__"):
            raise RecipeError(place, None, f"{setting}: there is no such section", f"sections are: {_sections(recipe)}")
        known = [each.name for each in fields(part)]
        if section == "factored" and (inner == "options" or key not in known):
            sections[section] = replace(part, options={**part.options, key: value})
        elif key not in known:
            remedy = f"{nearest(key, known)}keys are: {', '.join(known)}"
            raise RecipeError(place, None, f"{setting}: there is no such key", remedy)
        elif section:
            sections[section] = replace(part, **{key: _tuple(value, getattr(part, key))})
        else:
            sections[key] = value
    return _checked(PretrainRecipe(**sections), place)


def check_pretrain(recipe: PretrainRecipe) -> None:
    """Raise UsageError for settings that cannot be; nothing is opened for it."""
    masking, training, factored = recipe.masking, recipe.training, recipe.factored
    index.check("factored", factored.name, "factored.name", also=(DENSE,))
    if not 0 < masking.share < 1:
        raise UsageError(f"masking.share={masking.share:g}: give a share of the tokens above 0 and below 1")
    if not 0 < masking.held_out < 1:
        raise UsageError(f"masking.held_out={masking.held_out:g}: give a share of the documents above 0 and below 1")
    if masking.max_length < 8:
        raise UsageError(f"masking.max_length={masking.max_length}: a window has 8 tokens or more")
    if masking.vocabulary < 100:
        raise UsageError(f"masking.vocabulary={masking.vocabulary}: a vocabulary has 100 tokens or more")
    plain = OptimizerSettings()
    for key in ("minutes", "head_lr", "evaluation_queries", "evaluation_depth", "evaluation_share"):
        if getattr(training, key) != getattr(plain, key):
            raise UsageError(
                f"training.{key} is of rankers and not used here; leave it out (training.steps bounds a run)"
            )
    if factored.name == DENSE and factored.options:
        raise UsageError(f"factored.{next(iter(factored.options))}: dense layers have no options; name a method")
    if training.batch_size < 1 or training.accumulate < 1 or (training.steps or 1) < 1 or (training.epochs or 1) <= 0:
        raise UsageError("training: steps, batch_size and accumulate are 1 or more, epochs above 0")
    if training.lr != "default" and not 0 < training.lr < 10:
        raise UsageError(f"training.lr={training.lr:g}: give a rate above 0")


def _sections(recipe: PretrainRecipe) -> str:
    return ", ".join(each.name for each in fields(recipe) if is_dataclass(getattr(recipe, each.name)))


def _tuple(value: Any, before: Any) -> Any:
    return tuple(value) if isinstance(before, tuple) and isinstance(value, list) else value


def _checked(recipe: PretrainRecipe, place: str) -> PretrainRecipe:
    """Return the recipe with every value of the kind that its annotation says."""
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    kinds: tuple[Any, ...] = (PretrainRecipe, FactoredSettings, MaskingSettings, OptimizerSettings)
    for kind in kinds:
        kind.__pydantic_config__ = ConfigDict(extra="forbid")
    plain = {each.name: getattr(recipe, each.name) for each in fields(recipe)}
    plain |= {key: vars(part) for key, part in plain.items() if is_dataclass(part)}
    try:
        return TypeAdapter(PretrainRecipe).validate_python(plain)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"][:2])
        raise RecipeError(place, None, f"{key}: {first['msg']}", "see `lorank pretrain --help`") from error
