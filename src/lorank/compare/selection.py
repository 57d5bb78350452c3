"""Parts of an experiment: some of its rows, and keys set from without, as ``--row`` and ``--set`` ask for them."""

import re
import shlex
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

from lorank.compare.experiment import Experiment
from lorank.errors import unknown_name


def set_keys(content: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of an experiment file with keys set: for the whole file, and in each row that states them.

    Args:
        content: Keys and sections, as TOML gives them.
        settings: Section.key, or key, to its value.

    >>> set_keys({"seed": [0, 1], "row": [{"name": "a", "training": {"lr": 1}}]}, {"seed": 0, "training.lr": 2})["row"]
    [{'name': 'a', 'training': {'lr': 2}}]
    """
    made = deepcopy(dict(content))
    for key, value in settings.items():
        path = key.split(".")
        _set(made, path, value)
        rows = made.get("row", [])
        for table in rows if isinstance(rows, list) else []:
            if isinstance(table, dict) and _states(table, path):
                _set(table, path, value)
    return made


def select_rows(experiment: Experiment, names: Iterable[str], *, references: bool = False) -> Experiment:
    """Return the experiment with some of its rows; the baseline is dropped where it is none of them.

    Args:
        experiment: The experiment.
        names: The names of the rows that stay; none keeps all.
        references: Whether the rows that others are matched to stay as well.

    Raises:
        UsageError: For a name that no row has.
    """
    wanted, known = list(names), list(dict.fromkeys(row.name for row in experiment.rows))
    if not wanted:
        return experiment
    for name in wanted:
        if name not in known:
            raise unknown_name("--row", name, known)
    kept = {id(row) for row in experiment.rows if row.name in wanted}
    if references and experiment.match is not None:
        kept |= {id(experiment.reference(data)) for data in experiment.collections}
    rows = tuple(row for row in experiment.rows if id(row) in kept)
    named = any(row.name == experiment.baseline for row in rows)
    return replace(experiment, rows=rows, baseline=experiment.baseline if named else None)


def command_of_row(command: str | None, name: str) -> str | None:
    """Return the command that makes one row again, given that of the whole experiment.

    >>> command_of_row("lorank compare arena.toml", "lora, softmax")
    "lorank compare arena.toml --row 'lora, softmax'"
    """
    return None if command is None else f"{command} --row {shlex.quote(name)}"


def plain_name(name: str) -> str:
    """Return a row's name as a part of a folder's name.

    >>> plain_name("LightGBM, our lambda")
    'LightGBM-our-lambda'
    """
    return "-".join(re.findall(r"[\w.]+", name)) or "row"


def _set(table: dict[str, Any], path: list[str], value: Any) -> None:
    for part in path[:-1]:
        inner = table.get(part)
        if not isinstance(inner, dict):
            inner = table[part] = {}
        table = inner
    table[path[-1]] = value


def _states(table: Mapping[str, Any], path: list[str]) -> bool:
    for part in path:
        if not isinstance(table, Mapping) or part not in table:
            return False
        table = table[part]
    return True
