"""Rows that are not trained: a run, or a ranker as it is, and how a ``[[row]]`` table says so."""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from lorank.compare.axes import flatten, read_seeds
from lorank.compare.experiment import External, Row
from lorank.errors import UsageError
from lorank.training.checks import nearest
from lorank.training.recipe import RecipeFile, override

EXTERNAL_KEYS = (
    "name",
    "ranker",
    "run",
    "data",
    "kind",
    "label",
    "reading",
    "first_stage",
    "strategy",
    "budget",
    "options",
    "top",
    "mixed",
    "seed",
)
"""The keys of a ``[[row]]`` with a ranker or a run."""


def external_rows(base: Mapping[str, Any], table: Mapping[str, Any], place: str) -> Iterator[Row]:
    """Yield the row of each collection: that of the table, or else each of the file's.

    Args:
        base: The keys of the file, as section.key.
        table: The ``[[row]]``.
        place: The file and the row, for messages.

    Raises:
        UsageError: For keys that such a row does not take, and values of the wrong type.
    """
    for key in table:
        if key not in EXTERNAL_KEYS:
            remedy = f"{nearest(key, EXTERNAL_KEYS)}a row with a ranker or a run takes: {', '.join(EXTERNAL_KEYS)}"
            raise UsageError(f"{place}: {key}: there is no such key; {remedy}")
    if "ranker" in table and "run" in table:
        raise UsageError(f"{place}: ranker and run: a row has one of them; write two rows")
    title = table.get("name", table.get("ranker") or Path(str(table.get("run"))).stem)
    if not isinstance(title, str) or not title.strip():
        raise UsageError(f'{place}: name: {title!r} is no name of a row; write name = "..."')
    data = table.get("data", base.get("data"))
    if data is None:
        raise UsageError(f'{place}: data: a row needs a collection; write data = "pydocs", or the path of one')
    seed = table.get("seed", 0)
    seeds = read_seeds(seed if isinstance(seed, list) else [seed], place)
    kept = {key: base[key] for key in ("negative", "skip_bad", "language", "lists.depth") if key in base}
    kept |= {key: value for key, value in base.items() if key.startswith("first_stage.")}
    if "ranker" in table:
        kept |= {key: table[key] for key in ("kind", "label") if key in table}
        kept |= flatten({key: table[key] for key in ("reading", "first_stage") if key in table})
    kept = {key: value for key, value in kept.items() if not isinstance(value, list)}
    for one in data if isinstance(data, list) else [data]:
        recipe = override(RecipeFile(), {**kept, "data": one}, place)
        yield Row(str(title), _settings(table), recipe, seeds, None, _external(table, one, place))


def _external(table: Mapping[str, Any], data: str, place: str) -> External:
    run = table.get("run")
    if isinstance(run, Mapping):
        if data not in run:
            raise UsageError(f'{place}: run: there is none for {data!r}; write run = {{{data!r} = "a.run"}}')
        run = run[data]
    given = {key: table[key] for key in ("ranker", "strategy", "budget", "options", "top", "mixed") if key in table}
    types = {each.name: each.type for each in fields(External)}
    for key, value in {**given, **({} if run is None else {"run": run})}.items():
        expected = {"options": Mapping, "top": int, "mixed": bool}.get(key, str)
        if not isinstance(value, expected):
            raise UsageError(f"{place}: {key}: {value!r} is not of the type {types[key]}")
    if "strategy" not in given and ({"budget", "options", "top"} & given.keys()):
        raise UsageError(f"{place}: budget, options and top belong to a strategy; add strategy, or leave them out")
    return External(run=run, **given)


def _settings(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in flatten(table).items() if key not in ("name", "data", "seed")}
