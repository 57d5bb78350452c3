"""The file of a pipeline: its engines, its ranker, the values of its knobs, and how they are searched.

    data = "my-data"

    [retrieve]                      # the engines, in order: bm25, a bi-encoder, or the file of a run
    bm25 = "bm25"
    dense = "minilm"

    [rerank]                        # optional
    ranker = "runs/cross"

    [knobs]                         # optional: the values of a knob, the first being where the search begins
    "weight.dense" = [1.0, 0.0, 0.5, 2.0]
    top = [20, 0, 50]

    [search]                        # optional
    price = 0.01

A file whose knobs have one value each is a pipeline that is ready to run.
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from lorank.errors import DataError, UsageError
from lorank.files import write_text
from lorank.ranking.consensus.fusion import NORMALISATIONS
from lorank.ranking.metrics.measures import parse_measure

METHODS = ("two-level", "hyperband", "halving", "random", "grid")
WEIGHTS = (1.0, 0.0, 0.25, 0.5, 2.0, 4.0)
SECTIONS = ("retrieve", "rerank", "knobs", "search")
Knobs = Mapping[str, Sequence[Any]]
Setting = Mapping[str, Any]


@dataclass(frozen=True)
class SearchPlan:
    """How the knobs are searched.

    Attributes:
        method: A name in ``METHODS``.
        measure: The measure on judged queries that decides, higher being better.
        share: The most evaluations of a query, as a share of what the whole grid takes, above 0 to 1.
        batch: The queries of one evaluation of ``two-level``, and of the smallest of ``hyperband``, 1 or more.
        price: What the measure gives up for a hundred documents that the ranker scores for a query, 0 or more.
        seed: Of the draws.
    """

    method: str = "two-level"
    measure: str = "nDCG@10"
    share: float = 0.2
    batch: int = 50
    price: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"search.method {self.method!r}: choose one of {', '.join(METHODS)}")
        if not isinstance(self.measure, str):
            raise UsageError(f"search.measure {self.measure!r}: name a measure, such as nDCG@10")
        object.__setattr__(self, "measure", str(parse_measure(self.measure)))
        for name, kinds in (("share", int | float), ("price", int | float), ("batch", int), ("seed", int)):
            value = getattr(self, name)
            if not isinstance(value, kinds) or isinstance(value, bool):
                raise UsageError(f"search.{name} {value!r}: give a {'whole ' if kinds is int else ''}number")
        if not 0 < self.share <= 1 or self.batch < 1 or not self.price >= 0:
            raise UsageError("search: share is above 0 to 1, batch 1 or more, and price 0 or more")


@dataclass(frozen=True)
class Pipeline:
    """A pipeline: its ``data``, its engines in order, its ``ranker`` or None, its knobs and how they are searched."""

    engines: Mapping[str, str]
    ranker: str | None = None
    data: str | None = None
    given: Knobs = field(default_factory=dict)
    search: SearchPlan = field(default_factory=SearchPlan)

    @property
    def knobs(self) -> dict[str, list[Any]]:
        """The values of every knob that this pipeline has: those that are given, else the usual ones."""
        usual: dict[str, Sequence[Any]] = {f"weight.{name}": WEIGHTS for name in list(self.engines)[1:]}
        if len(self.engines) > 1:
            usual["normalise"] = tuple(NORMALISATIONS)
        usual["depth"] = (100, 20, 50)
        if self.ranker is not None:
            usual |= {"top": (20, 0, 10, 50), "mix": (1.0, 0.25, 0.5, 0.75)}
        return {name: list(self.given.get(name, values)) for name, values in usual.items()}

    @property
    def setting(self) -> dict[str, Any]:
        """The first value of each knob."""
        return {name: values[0] for name, values in self.knobs.items()}

    def fixed(self, setting: Setting) -> "Pipeline":
        """Return the pipeline whose knobs have these values alone."""
        return replace(self, given={name: [value] for name, value in setting.items()})


def read_pipeline(path: str | Path) -> Pipeline:
    """Return the pipeline of a TOML file.

    Raises:
        DataError: For a file that is not TOML, a key that is unknown, and a value that its knob does not take.
    """
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(path, None, f"the pipeline cannot be read ({error})", "see lorank tune --help") from error
    _check_keys(path, table, ("data", *SECTIONS), "")
    for name in SECTIONS:
        if not isinstance(table.get(name, {}), dict):
            raise DataError(path, None, f"{name} is not a section", f"write [{name}] with keys below it")
    engines = table.get("retrieve", {})
    texts = [*engines.values(), *table.get("rerank", {}).values(), *([table["data"]] if "data" in table else [])]
    if not all(isinstance(each, str) and each for each in texts):
        raise DataError(path, None, "an engine, the ranker or data is no name", "write them as texts")
    if not engines:
        raise DataError(path, None, "[retrieve] names no engine", 'write bm25 = "bm25", dense = "minilm", or run files')
    _check_keys(path, table.get("rerank", {}), ("ranker",), "rerank.")
    _check_keys(path, table.get("search", {}), [each.name for each in fields(SearchPlan)], "search.")
    try:
        plan = SearchPlan(**table.get("search", {}))
        made = Pipeline(engines, table.get("rerank", {}).get("ranker"), table.get("data"), _flat(table), plan)
        check_knobs(made)
    except UsageError as error:
        raise DataError(path, None, str(error), "see lorank tune --help") from error
    return made


def check_knobs(pipeline: Pipeline) -> None:
    """Raise UsageError for a knob that the pipeline does not have, and for a value that a knob does not take."""
    known = Pipeline(pipeline.engines, pipeline.ranker).knobs
    for name, values in pipeline.given.items():
        if name not in known:
            close = get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise UsageError(f"knobs.{name}: {hint}this pipeline has {', '.join(known)}")
        if not isinstance(values, Sequence) or isinstance(values, str) or not values:
            raise UsageError(f"knobs.{name}: give a list of values, such as {known[name]}")
        for value in values:
            _check_value(name, value)


def _check_value(name: str, value: Any) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    whole = isinstance(value, int) and not isinstance(value, bool)
    fits = {
        "normalise": isinstance(value, str) and value in NORMALISATIONS,
        "depth": whole and value >= 1,
        "top": whole and value >= 0,
        "mix": number and 0 <= value <= 1,
    }.get(name, number and 0 <= value < float("inf"))
    said = {
        "normalise": f"one of {', '.join(NORMALISATIONS)}",
        "depth": "whole numbers of 1 or more",
        "top": "whole numbers of 0 or more",
        "mix": "shares from 0 to 1",
    }.get(name, "numbers of 0 or more")
    if not fits:
        raise UsageError(f"knobs.{name} = {value!r}: its values are {said}")


def write_pipeline(pipeline: Pipeline, path: str | Path) -> None:
    """Write a pipeline as TOML, whole or not at all."""
    lines = [f"data = {json.dumps(pipeline.data)}", ""] if pipeline.data is not None else []
    lines += ["[retrieve]", *(f"{json.dumps(name)} = {json.dumps(what)}" for name, what in pipeline.engines.items())]
    if pipeline.ranker is not None:
        lines += ["", "[rerank]", f"ranker = {json.dumps(pipeline.ranker)}"]
    lines += ["", "[knobs]", *(f"{json.dumps(name)} = {json.dumps(list(v))}" for name, v in pipeline.knobs.items())]
    lines += ["", "[search]", *(f"{name} = {json.dumps(value)}" for name, value in asdict(pipeline.search).items())]
    write_text(path, "\n".join(lines) + "\n")


def _flat(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the knobs by name, whether ``weight.dense`` stands as a key or as a table."""
    knobs = dict(table.get("knobs", {}))
    weights = knobs.pop("weight", {})
    return knobs | {f"weight.{name}": values for name, values in weights.items()}


def _check_keys(path: Path, table: Mapping[str, Any], known: Sequence[str], before: str) -> None:
    for key in table:
        if key not in known:
            close = get_close_matches(key, known, 1)
            remedy = (
                f"did you mean {before}{close[0]}?" if close else f"use {', '.join(before + name for name in known)}"
            )
            raise DataError(path, None, f"unknown key {before}{key}", remedy)
