"""What methods with several adapters share: which expert each stage trained, read from the stages' folders."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lorank.continual.core.features import query_features
from lorank.continual.core.stream import Stream
from lorank.errors import UsageError
from lorank.files import write_json
from lorank.training.recipe import RecipeFile

STATE = "expert.json"
MOST_QUERIES = 1000
"""How many queries of a split features are taken of, at even places."""


@dataclass(frozen=True)
class StageExpert:
    """The expert that a stage trained, counted from 0; whether the stage made it; and what the method knows of it."""

    stage: int
    expert: int
    new: bool
    more: dict[str, Any]


def check_adapter(recipe: RecipeFile, name: str) -> None:
    """Raise UsageError where whole weights are trained, of which a method with several adapters has no use."""
    if recipe.adapter.name in ("full", "head") or recipe.optimizer.name not in ("auto", "adamw"):
        raise UsageError(f"continual method {name!r} keeps several adapters of one base; choose a low-rank adapter")


def write_expert(folder: Path, expert: int, new: bool, more: dict[str, Any]) -> None:
    """Write which expert a stage trained."""
    write_json(folder / STATE, {"expert": expert, "new": new, "more": more}, indent=1)


def read_experts(stream: Stream, stages: int) -> list[StageExpert]:
    """Return the experts of the first ``stages`` stages."""
    found = []
    for stage in range(1, stages + 1):
        known = json.loads((stream.folder(stage) / STATE).read_text(encoding="utf-8"))
        found.append(StageExpert(stage, known["expert"], known["new"], known["more"]))
    return found


def latest_stage(experts: list[StageExpert], expert: int) -> int:
    """Return the last stage that trained an expert.

    >>> latest_stage([StageExpert(1, 0, True, {}), StageExpert(2, 1, True, {}), StageExpert(3, 0, False, {})], 0)
    3
    """
    return max(each.stage for each in experts if each.expert == expert)


def count_experts(experts: list[StageExpert]) -> int:
    """Return how many experts there are."""
    return len({each.expert for each in experts})


def features_of(stream: Stream, place: int, split: str) -> np.ndarray:
    """Return the features of a collection's queries by the untuned base; they are computed once.

    Args:
        stream: The stream.
        place: The position of the collection, counted from 0.
        split: The split; of a large one some queries at even places stand for all.
    """
    key = f"features {place} {split}"
    if key not in stream.kept:
        texts = list(stream.collections[place].split(split).queries.values())
        stream.kept[key] = query_features(_base(stream), texts[:: max(1, len(texts) // MOST_QUERIES)][:MOST_QUERIES])
    found: np.ndarray = stream.kept[key]
    return found


def features_asked(stream: Stream, place: int, queries: list[str]) -> np.ndarray:
    """Return the features of some test queries of a collection; they are computed once.

    Args:
        stream: The stream.
        place: The position of the collection, counted from 0.
        queries: The queries, by id.
    """
    key = f"features asked {place} {' '.join(queries)}"
    if key not in stream.kept:
        asked = stream.collections[place].test.queries
        stream.kept[key] = query_features(_base(stream), [asked[query] for query in queries])
    found: np.ndarray = stream.kept[key]
    return found


def _base(stream: Stream) -> Any:
    if "base" not in stream.kept:
        stream.kept["base"] = stream.read(0).ranker
    return stream.kept["base"]
