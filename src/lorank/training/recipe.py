"""Recipe files: a training run as TOML, with the sections and keys of `lorank.training.settings`.

The run.json of an earlier run is a recipe too: that of the run, with every choice as it was made.

data = "pydocs"
base = "minilm"
[adapter]
name = "lora"
rank = 16
[training]
lr = 1e-3
"""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorank import index
from lorank.errors import DataError, UsageError
from lorank.training.checks import nearest
from lorank.training.method_options import move_options
from lorank.training.settings import (
    CascadeSettings,
    ContinualSettings,
    Option,
    Recipe,
    accept_offset,
    list_changed_settings,
)
from lorank.tuned.reading import ReadingSettings

if TYPE_CHECKING:
    from pydantic import TypeAdapter


class RecipeError(DataError, UsageError):
    """A recipe with a key or a value that cannot be: bad data, and wrong use of the command (exit code 2)."""


@accept_offset
@dataclass(frozen=True)
class RecipeFile(Recipe):
    """A recipe together with what it is to be applied to; ``options`` are a feature model's own.

    ``clicks`` is a click log over ``data``, which is then what is learned from. ``negative`` says what a judgment
    below 0 is: error, zero, skip or keep (:mod:`lorank.data.numbers`). With ``skip_bad`` bad rows of the data are left
    out and kept in a file, in place of one report that ends the run.
    ``language`` says how BM25 cuts texts (:mod:`lorank.ranking.scorers.languages`); auto goes by their script.
    ``then`` are the collections that are learned after ``data``, one after the other, as ``continual`` says.
    ``cross`` are settings of a cascade's cross-encoder (`lorank.training.cascade`), with the sections of a recipe.
    """

    data: str | None = None
    clicks: str | None = None
    base: str | None = None
    kind: str | None = None
    view: str | None = None
    label: str | int | None = None
    out: str | None = None
    options: dict[str, Option | list[Option]] = field(default_factory=dict)
    negative: str = "error"
    skip_bad: bool = False
    language: str = "auto"
    then: list[str] = field(default_factory=list)
    continual: ContinualSettings = field(default_factory=ContinualSettings)
    cascade: CascadeSettings = field(default_factory=CascadeSettings)
    cross: dict[str, Any] = field(default_factory=dict)


def read_recipe(path: str | Path) -> RecipeFile:
    """Read a recipe in TOML, or the run.json of a run.

    Raises DataError naming the key where something is unknown or of the wrong type.
    """
    return _validate(path, _content(path))


def settings_said(path: str | Path) -> list[str]:
    """Return which settings a recipe states, also where it states the default: section.key, or key.

    A run.json states every setting; what counts there is what differs from the defaults.
    """
    if is_record(path):
        return list_changed_settings(read_recipe(path))
    return [
        f"{key}.{inner}" if isinstance(value, dict) and key != "options" else key
        for key, value in _content(path).items()
        for inner in (value if isinstance(value, dict) and key != "options" else [""])
    ]


def _content(path: str | Path) -> dict[str, Any]:
    try:
        text = Path(path).read_text(encoding="utf-8")
        return rename_sections(path, recipe_of_record(path, text) if is_record(path) else tomllib.loads(text))
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such recipe file") from error
    except IsADirectoryError as error:
        inside = Path(path) / RECORD
        hint = f"; its recipe is {inside}" if inside.is_file() else ""
        raise UsageError(f"{path} is a folder, not a recipe{hint}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(path, None, f"not valid TOML: {error}", "see `lorank train --help` for an example") from error


RECORD = "run.json"
"""What a run folder calls its record."""


def is_record(path: str | Path) -> bool:
    """Return whether a recipe is the record of a run, by its name."""
    return Path(path).suffix == ".json"


def recipe_of_record(path: str | Path, text: str) -> dict[str, Any]:
    """Return the recipe in the text of a run.json: what was settled for the run, ready to be run again.

    A run that Python started names no collection; one that is packaged is known by its name.

    Raises:
        DataError: For what is no run.json.
    """
    try:
        record = json.loads(text)
        content = dict(record.get("recipe") or record["settings"])
        ranker = content.pop("ranker", {})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            path, None, f"not the record of a run ({error!r})", "give a TOML recipe, or a run.json"
        ) from error
    if content.get("base") is None:
        known = {"base", "kind", "view", "label"}
        content |= {key: value for key, value in ranker.items() if key in known}
        read = {field.name for field in fields(ReadingSettings)}
        content["reading"] = {key: value for key, value in ranker.items() if key in read and value is not None}
    name = record.get("collection", {}).get("name")
    if content.get("data") is None and name in index.names("collection"):
        content["data"] = name
    return {key: _stated(value) for key, value in content.items() if value is not None}


def _stated(value: Any) -> Any:
    return {key: inner for key, inner in value.items() if inner is not None} if isinstance(value, dict) else value


def override(plan: RecipeFile, given: Mapping[str, Any], place: str = "--set") -> RecipeFile:
    """Return ``plan`` with the settings ``given``, as section.key or key, in place of its own.

    The value of a section's ``options`` is reached by one name more: ``adapter.options.r_max``.

    Raises:
        RecipeError: For a section or key that recipes do not have, with the nearest that they have, and for a value
            of the wrong type.

    >>> override(RecipeFile(), {"adapter.rank": 4, "adapter.options.copies": 2}).adapter.options
    {'copies': 2}
    >>> override(RecipeFile(options={"trees": 50}), {"options.leaves": 8}).options
    {'trees': 50, 'leaves': 8}
    """
    changes: dict[str, Any] = {}
    for setting, value in given.items():
        *sections, key = setting.split(".")
        where = changes
        for section in sections:
            where = where.setdefault(section, {})
        where[key] = value
    changes, _ = move_options(rename_sections(place, changes), plan)
    checked = _validate(place, changes, plan)
    for key, value in changes.items():
        stated = getattr(checked, key)
        if is_dataclass(stated) and isinstance(value, dict):
            inner = {name: _merge_options(plan, checked, key, name) for name in value}
            stated = replace(getattr(plan, key), **inner)
        elif isinstance(stated, dict):
            stated = _merge_tables(getattr(plan, key), stated)
        plan = replace(plan, **{key: stated})
    return plan


def _merge_tables(own: Mapping[str, Any], stated: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table with what is stated in the place of its own, tables within it likewise."""
    return {**own} | {
        key: _merge_tables(own[key], value)
        if isinstance(value, Mapping) and isinstance(own.get(key), Mapping)
        else value
        for key, value in stated.items()
    }


def _merge_options(plan: RecipeFile, checked: RecipeFile, section: str, name: str) -> Any:
    """Return the stated value; of a table of options the plan's own stay where the change names others."""
    value = getattr(getattr(checked, section), name)
    return {**getattr(getattr(plan, section), name), **value} if isinstance(value, dict) else value


ALIASES = {"offset": "first_stage"}
"""Names of sections in recipes and records of 0.1, with those of `Recipe` that took their place."""


def rename_sections(path: str | Path, content: dict[str, Any]) -> dict[str, Any]:
    """Return the content with sections under the names of `Recipe`; a section under both names is an error.

    The ``name`` of a start is ``adapter.start``.
    """
    for alias, name in ALIASES.items():
        if alias in content and name in content:
            raise RecipeError(path, None, f"[{alias}] and [{name}] are the same section", f"write [{name}] alone")
    content = {ALIASES.get(key, key): value for key, value in content.items()}
    start = content.get("start")
    if isinstance(start, dict) and "name" in start:
        adapter = content.get("adapter", {})
        if "start" in adapter:
            raise RecipeError(path, None, "start.name and adapter.start are the same key", "write start.name alone")
        content["adapter"] = {**adapter, "start": start["name"]}
        content["start"] = {key: value for key, value in start.items() if key != "name"}
    return content


def check_keys(path: str | Path, content: dict[str, Any], options: Mapping[str, tuple[str, ...]] = {}) -> None:
    """Raise RecipeError for a section or key that recipes do not have, with the nearest that they have.

    Args:
        path: The recipe, for messages.
        content: Sections and keys.
        options: By section the options of its method, which are keys of the section too.
    """
    empty = RecipeFile()
    known = [field.name for field in fields(RecipeFile)]
    for key, value in content.items():
        if key not in known:
            remedy = f"{nearest(key, known)}top-level keys and sections are: {', '.join(known)}"
            raise RecipeError(path, None, f"{key}: there is no such key", remedy)
        part = getattr(empty, key)
        if not (is_dataclass(part) and isinstance(value, dict)):
            continue
        inner = [field.name for field in fields(part)]
        own = options.get(key, ())
        for name in value:
            if name not in inner:
                remedy = f"{nearest(name, [*inner, *own])}the keys of [{key}] are: {', '.join(inner)}"
                remedy += f"; the options of its method: {', '.join(own)}" if own else ""
                raise RecipeError(path, None, f"{key}.{name}: there is no such key", remedy)


def _validate(path: str | Path, content: dict[str, Any], plan: RecipeFile | None = None) -> RecipeFile:
    from pydantic import ValidationError

    content, options = move_options(content, plan or RecipeFile())
    check_keys(path, content, options)
    try:
        return _adapter().validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(_path_within(content, first["loc"]))
        remedy = "see the recipe reference in docs/"
        if first["type"] == "literal_error":
            words = re.findall(r"'([^']*)'", first["ctx"]["expected"])
            remedy = f"{nearest(str(first['input']), words)}known: {', '.join(words)}"
        raise RecipeError(path, None, f"{key}: {first['msg']}", remedy) from error


def _path_within(content: Any, parts: Sequence[str | int]) -> list[str]:
    """Return the parts that lead into ``content``; behind them come the types that a value was tried as.

    >>> _path_within({"training": {"lr": "fast"}}, ["training", "lr", "float"])
    ['training', 'lr']
    """
    path = []
    for part in parts:
        if not isinstance(content, dict) or part not in content:
            break
        path.append(str(part))
        content = content[part]
    return path or [str(part) for part in parts]


def _adapter() -> "TypeAdapter[RecipeFile]":
    from pydantic import ConfigDict, TypeAdapter

    from lorank.training import settings

    parts: tuple[Any, ...] = (
        RecipeFile,
        settings.AdapterSettings,
        settings.StartSettings,
        settings.BudgetSettings,
        settings.RuleSettings,
        settings.ProjectionSettings,
        settings.CompressSettings,
        settings.LossSettings,
        settings.DebiasSettings,
        settings.PolicySettings,
        settings.ListSettings,
        settings.OptimizerSettings,
        settings.FirstStageSettings,
        settings.ContinualSettings,
        settings.CascadeSettings,
        ReadingSettings,
    )
    for part in parts:
        part.__pydantic_config__ = ConfigDict(extra="forbid")
    return TypeAdapter(RecipeFile)
