"""Recipe files: a training run as TOML, with the sections and keys of `lorank.training.settings`.

data = "pydocs"
base = "minilm"
[adapter]
name = "lora"
rank = 16
[training]
lr = 5e-4
"""

import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError

from lorank.errors import DataError, UsageError
from lorank.training.settings import Option, Recipe


@dataclass(frozen=True)
class RecipeFile(Recipe):
    """A recipe together with what it is to be applied to; ``options`` are a feature model's own."""

    data: str | None = None
    base: str | None = None
    kind: str | None = None
    view: str | None = None
    out: str | None = None
    options: dict[str, Option | list[Option]] = field(default_factory=dict)


def read_recipe(path: str | Path) -> RecipeFile:
    """Read a TOML recipe; raise DataError naming the key where something is unknown or of the wrong type."""
    return _validated(path, _content(path))


def settings_said(path: str | Path) -> list[str]:
    """Return which settings a TOML recipe states, also where it states the default: section.key, or key."""
    return [
        f"{key}.{inner}" if isinstance(value, dict) and key != "options" else key
        for key, value in _content(path).items()
        for inner in (value if isinstance(value, dict) and key != "options" else [""])
    ]


def _content(path: str | Path) -> dict:
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such recipe file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(path, None, f"not valid TOML: {error}", "see `lorank train --help` for an example") from error


def _validated(path: str | Path, content: dict) -> RecipeFile:
    try:
        return _adapter().validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        known = ", ".join(field.name for field in fields(RecipeFile))
        raise DataError(path, None, f"{key}: {first['msg']}", f"top-level keys and sections are: {known}") from error


def _adapter() -> TypeAdapter[RecipeFile]:
    from lorank.training import settings

    for part in (
        RecipeFile,
        settings.AdapterSettings,
        settings.BudgetSettings,
        settings.RuleSettings,
        settings.LossSettings,
        settings.ListSettings,
        settings.OptimizerSettings,
        settings.OffsetSettings,
    ):
        part.__pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[attr-defined]
    return TypeAdapter(RecipeFile)
