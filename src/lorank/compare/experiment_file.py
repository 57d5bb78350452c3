"""Experiment files: a recipe in TOML whose keys may hold several values, and what is compared with what.

data = "pydocs"
base = "minilm"
seed = [0, 1, 2]
baseline = "lora"
adapter.name = ["lora", "dora"]
training.lr = {sweep = [1e-4, 1e-3], per = "method"}

[[row]]
name = "BM25"
ranker = "bm25"

The axes multiply. Where a ``[[row]]`` is trained, the rows of the file are those alone, each with the file's axes and
its own; where none is, the axes make the rows by themselves. A ``[[row]]`` with an axis of its own needs no name.
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

from lorank.compare.axes import SEED, Axes, divide_keys, flatten, is_axis, name_values
from lorank.compare.experiment import MEASURES, Experiment, Match, Row
from lorank.compare.external_rows import external_rows
from lorank.compare.random_search import RandomSearch, SearchSettings, read_search
from lorank.compare.selection import set_keys
from lorank.compare.statistics_settings import StatisticsSettings
from lorank.errors import UsageError, unknown_name
from lorank.ranking.metrics.measure_names import split_measures
from lorank.ranking.metrics.measures import parse_measure
from lorank.training.checks import nearest
from lorank.training.recipe import RecipeFile, override, rename_sections

OWN_KEYS = ("name", "baseline", "measures", "folds", "split", "match", "search", "goal", "statistics", "row")
"""The keys of an experiment that no recipe has."""
ROW_KEYS = ("name", "both_ways")
"""The keys of a trained ``[[row]]`` that no recipe has."""
NOT_OF_EXPERIMENTS = {
    "out": "the folder is given by --out",
    "clicks": "a comparison is judged by relevance labels; train on clicks with `lorank train`",
    "judge_test": "every row is judged on test",
    "cascade": "a row trains one ranker; train the two of a cascade with `lorank train --cascade`",
    "cross": "a row trains one ranker; train the two of a cascade with `lorank train --cascade`",
}


def read_experiment(source: str | Path | Mapping[str, Any], settings: Mapping[str, Any] = {}) -> Experiment:
    """Return the experiment of a TOML file, or of a mapping with the same keys.

    Args:
        source: The file or the mapping.
        settings: Keys that are set in place of the file's, as section.key.

    Raises:
        UsageError: For a file that is none, for unknown keys and values that do not fit, naming file, key and remedy.

    >>> made = read_experiment({"data": "pydocs", "base": "minilm", "adapter": {"name": ["lora", "dora"]}})
    >>> [row.name for row in made.rows]
    ['lora', 'dora']
    """
    if isinstance(source, Mapping):
        return make_experiment(set_keys(source, settings), "the experiment", "experiment", "")
    path = Path(source)
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such experiment file") from error
    except IsADirectoryError as error:
        raise UsageError(f"{path} is a folder; give the experiment's TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not valid TOML: {error}; see `lorank compare --help` for an example") from error
    return make_experiment(set_keys(content, settings), str(path), path.stem, text)


def make_experiment(content: dict[str, Any], place: str, name: str, text: str) -> Experiment:
    """Return the experiment that ``content`` describes.

    Args:
        content: Keys and sections, as TOML gives them.
        place: The file, for messages.
        name: The name of an experiment that states none.
        text: The text of the file, which the page shows.
    """
    own = {key: content[key] for key in OWN_KEYS if key in content}
    base = flatten(rename_sections(place, {key: value for key, value in content.items() if key not in own}))
    _check_keys(base, place)
    tables = own.get("row", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise UsageError(f"{place}: row: rows are written as [[row]] tables, each with a name")
    search = read_search(own.get("search", {}), place)
    rows = tuple(replace(row, search=_search(row, search)) for row in _expand(base, tables, place))
    if "search" in own and not any(row.search for row in rows):
        raise UsageError(f"{place}: search: no key is drawn; write one, options.leaves = {{draw = [4, 8, 16]}}")
    if not rows:
        raise UsageError(f"{place}: there is nothing to compare; give an axis (adapter.name = [...]) or a [[row]]")
    _check_names_of(rows, place)
    return Experiment(
        _title(own.get("name", name), place),
        rows,
        _measures(own.get("measures", MEASURES), place),
        _baseline(own.get("baseline"), rows, place),
        _folds(own.get("folds"), place),
        str(own.get("split", "test")),
        _match(own.get("match"), rows, place),
        text,
        _statistics(own.get("statistics", {}), place),
        _goal(own.get("goal"), place),
    )


def _expand(base: dict[str, Any], tables: list[dict[str, Any]], place: str) -> Iterator[Row]:
    trained = [table for table in tables if not {"ranker", "run"} & table.keys()]
    external = [table for table in tables if {"ranker", "run"} & table.keys()]
    if not trained and _trains(base):
        yield from _trained_rows(base, {}, place)
    for number, table in enumerate(tables, start=1):
        where = f"{place}: row {number}"
        if table in external:
            yield from external_rows(base, table, where)
            continue
        own = flatten(rename_sections(where, {k: value for k, value in table.items() if k not in ROW_KEYS}))
        name = table.get("name", "")
        if not isinstance(name, str) or not (name or any(is_axis(key, own[key]) for key in own if key != SEED)):
            raise UsageError(f'{where}: a row has a name; write name = "..." under its [[row]], or give it an axis')
        both_ways = table.get("both_ways", False)
        if not isinstance(both_ways, bool):
            raise UsageError(f"{where}: both_ways: {both_ways!r} is neither true nor false")
        _check_keys(own, where)
        for row in _trained_rows(base, own, where, name):
            yield replace(row, both_ways=both_ways)


def _trains(base: Mapping[str, Any]) -> bool:
    """Return whether a file without a trained ``[[row]]`` has rows of its own: where it says what learns, and how."""
    sections = ("adapter", "start", "budget", "rule", "optimizer", "compress", "loss", "training", "options")
    return any(key in ("base", "kind") or key.partition(".")[0] in sections for key in base)


def _trained_rows(base: Mapping[str, Any], own: Mapping[str, Any], place: str, name: str = "") -> Iterator[Row]:
    keys = divide_keys({**base, **own}, place)
    tried = {**keys.axes, **({} if keys.sweep is None else {keys.sweep.key: keys.sweep.values})}
    tried |= {dimension.key: dimension.values or dimension.ends for dimension in keys.space}
    for key, values in tried.items():
        for value in values:
            _fit_value(key, value, place)
    for point in keys.points():
        recipe = _recipe(keys, point, place)
        named = {key: value for key, value in point.items() if key != "data"}
        title = ", ".join(part for part in (name, name_values(named)) if part) or _plain_name(recipe)
        stated = {key: value for key, value in own.items() if key in keys.fixed and key != "data"}
        search = RandomSearch(keys.space) if keys.space else None
        yield Row(title, {**stated, **named}, recipe, keys.seeds, keys.sweep, search=search)


def _fit_value(key: str, value: Any, place: str) -> None:
    """Raise RecipeError for a value that its key does not take; options of methods are checked with the methods."""
    known, (section, _, name) = RecipeFile(), key.partition(".")
    if not name or hasattr(getattr(known, section, None), name):
        override(known, {key: value}, place)


def _recipe(keys: Axes, point: Mapping[str, Any], place: str) -> RecipeFile:
    given = {**keys.fixed, **point}
    recipe = override(RecipeFile(), given, place)
    if recipe.data is None:
        raise UsageError(f'{place}: data: a row needs a collection; write data = "pydocs", or the path of one')
    if keys.sweep is not None:
        override(recipe, {keys.sweep.key: keys.sweep.values[0]}, place)
    return recipe


def _search(row: Row, settings: SearchSettings) -> RandomSearch | None:
    return None if row.search is None else replace(row.search, settings=settings)


def _plain_name(recipe: RecipeFile) -> str:
    return "tuned" if recipe.adapter.name == "auto" else recipe.adapter.name


def _check_keys(flat: Mapping[str, Any], place: str) -> None:
    """Raise UsageError for top-level keys that neither an experiment nor a recipe has; sections check their own."""
    known = [each.name for each in fields(RecipeFile) if each.name not in NOT_OF_EXPERIMENTS]
    for key in flat:
        top = key.partition(".")[0]
        if top in NOT_OF_EXPERIMENTS:
            raise UsageError(f"{place}: {key}: not of an experiment; {NOT_OF_EXPERIMENTS[top]}")
        if top not in known:
            remedy = (
                f"{nearest(top, [*OWN_KEYS, *known])}an experiment has {', '.join(OWN_KEYS)} and the keys of a recipe"
            )
            raise UsageError(f"{place}: {key}: there is no such key; {remedy}")


def _check_names_of(rows: tuple[Row, ...], place: str) -> None:
    seen: set[tuple[str, str]] = set()
    for row in rows:
        if (row.data, row.name) in seen:
            raise UsageError(f"{place}: two rows are called {row.name!r} on {row.data}; give one of them another name")
        seen.add((row.data, row.name))


def _title(value: Any, place: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f'{place}: name: {value!r} is no title of a page; write name = "..."')
    return value


def _measures(value: Any, place: str) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else list(value) if isinstance(value, list | tuple) else []
    if not texts or not all(isinstance(text, str) for text in texts):
        raise UsageError(f'{place}: measures: give names, as in measures = ["nDCG@10", "RR@10"]')
    measures = split_measures(texts)
    for measure in measures:
        try:
            parse_measure(measure)
        except UsageError as error:
            raise UsageError(f"{place}: measures: {error}") from error
    return tuple(measures)


def _baseline(value: Any, rows: tuple[Row, ...], place: str) -> str | None:
    if value is None:
        return None
    names = list(dict.fromkeys(row.name for row in rows))
    if value not in names:
        raise UsageError(f"{place}: baseline: {unknown_name('row', str(value), names)}")
    for data in dict.fromkeys(row.data for row in rows):
        if not any(row.data == data and row.name == value for row in rows):
            raise UsageError(f"{place}: baseline: {data} has no row {value!r}; give it one, or leave the baseline out")
    return str(value)


def _statistics(table: Any, place: str) -> StatisticsSettings:
    known = [each.name for each in fields(StatisticsSettings)]
    if not isinstance(table, Mapping):
        raise UsageError(f"{place}: statistics: write a table [statistics] with {', '.join(known)}")
    for key in table:
        if key not in known:
            remedy = f"{nearest(str(key), known)}[statistics] has {', '.join(known)}"
            raise UsageError(f"{place}: statistics.{key}: there is no such key; {remedy}")
    try:
        return StatisticsSettings(**table)
    except UsageError as error:
        raise UsageError(f"{place}: {error}") from error


def _goal(value: Any, place: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise UsageError(f"{place}: goal: {value!r} is no share of the baseline's gain on dev; write one, such as 0.9")
    return float(value)


def _folds(value: Any, place: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 3:
        raise UsageError(f"{place}: folds: {value!r} folds give no train, dev and test parts; write 3 or more")
    return value


def _match(value: Any, rows: tuple[Row, ...], place: str) -> Match | None:
    if value is None:
        return None
    if value not in get_args(Match):
        raise UsageError(f"{place}: match: {unknown_name('match', str(value), get_args(Match))}")
    chosen = [row.sweep.key for row in rows if row.sweep is not None]
    chosen += [dimension.key for row in rows if row.search is not None for dimension in row.search.space]
    if value == "trained_parameters" and "adapter.rank" in chosen:
        raise UsageError(f"{place}: match: dev chooses adapter.rank, so that ranks cannot be matched; leave one out")
    matched: Match = value
    return matched
