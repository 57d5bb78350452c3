"""A recipe written down as TOML, which `lorank.training.recipe.read_recipe` reads back to the same settings."""

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from lorank.files import write_text
from lorank.training.recipe import RecipeFile

TABLES = ("options", "cross")
"""Keys of a recipe that hold a table of any keys."""


def write_recipe(plan: RecipeFile, path: str | Path) -> None:
    """Write ``plan`` as a TOML file, whole or not at all."""
    write_text(path, recipe_text(plan))


def recipe_text(plan: RecipeFile) -> str:
    """Return ``plan`` as TOML: every setting, defaults included; what is None is left out.

    >>> recipe_text(RecipeFile(data="pydocs", base="minilm")).splitlines()[:3]
    ['seed = 0', 'judge_test = true', 'keep = "better"']
    """
    own = {each.name: getattr(plan, each.name) for each in fields(plan)}
    sections = {name: value for name, value in own.items() if is_dataclass(value)}
    top = {name: value for name, value in own.items() if name not in (*sections, *TABLES)}
    lines = _lines(top)
    for name, section in sections.items():
        table = {each.name: getattr(section, each.name) for each in fields(section)}
        lines += _table(name, table)
    for name in TABLES:
        lines += _table(name, getattr(plan, name))
    return "\n".join(lines).strip("\n") + "\n"


def _table(name: str, table: Mapping[str, Any]) -> list[str]:
    """Return the lines of a table, with the tables in it behind; a table without a key is left out."""
    inner = {key: value for key, value in table.items() if isinstance(value, Mapping)}
    lines = _lines({key: value for key, value in table.items() if key not in inner})
    found = ["", f"[{name}]", *lines] if lines else []
    for key, value in inner.items():
        found += _table(f"{name}.{key}", value)
    return found


def _lines(table: Mapping[str, Any]) -> list[str]:
    return [f"{_key(key)} = {_value(value)}" for key, value in table.items() if value is not None]


def _key(key: str) -> str:
    plain = key.replace("_", "").replace("-", "")
    return key if plain.isascii() and plain.isalnum() else json.dumps(key)


def _value(value: Any) -> str:
    """Return a value as TOML writes it.

    >>> _value([0.5, float("inf")]), _value("a \\"b\\""), _value(True)
    ('[0.5, inf]', '"a \\\\"b\\\\""', 'true')
    """
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
