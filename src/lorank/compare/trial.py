"""One piece of work of an experiment: a row at one value of its swept key, one seed, and one fold."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

from lorank.compare.experiment import Experiment, External, Row
from lorank.training.recipe import RecipeFile, override
from lorank.training.settings import as_plain


@dataclass(frozen=True)
class Trial:
    """What is run and judged at once.

    Attributes:
        row: The row's name, which is not part of the key: a row may be renamed.
        recipe: The recipe, with the seed and the value of the swept key in place.
        external: What is judged in place of a training, None for a training.
        measures: The measures.
        split: The judged split.
        folds: In how many folds the judged queries are divided; None where they are not.
        fold: Which of them is tested, from 1; None for a trial over the whole split.
        dev_only: Whether test is left alone, as a search does.
        both_ways: Whether what was trained is judged by the mean of its scores both ways.
    """

    row: str
    recipe: RecipeFile
    external: External | None
    measures: tuple[str, ...]
    split: str
    folds: int | None
    fold: int | None
    dev_only: bool = False
    both_ways: bool = False

    @property
    def data(self) -> str:
        """The collection, as the file names it."""
        assert self.recipe.data is not None
        return self.recipe.data

    @cached_property
    def settings(self) -> dict[str, Any]:
        """All that decides what the trial gives, as JSON data."""
        recipe = as_plain(self.recipe)
        for key in ("out", "clicks", "judge_test"):
            recipe.pop(key)
        return {
            "recipe": recipe,
            "external": None if self.external is None else as_plain(self.external),
            "measures": list(self.measures),
            "split": self.split,
            "folds": self.folds,
            "fold": self.fold,
            **({"dev_only": True} if self.dev_only else {}),
            **({"both_ways": True} if self.both_ways else {}),
        }

    @cached_property
    def key(self) -> str:
        """What the ledger knows the trial by."""
        return key_of(self.settings)

    def describe(self) -> str:
        """Return the trial in words, for progress."""
        fold = "" if self.fold is None else f", fold {self.fold} of {self.folds}"
        return f"{self.row}, seed {self.recipe.seed}{fold}"


def canonical_json(value: Any) -> str:
    """Return JSON data as one text: keys sorted, no blanks.

    >>> canonical_json({"b": 1, "a": [1, 2]})
    '{"a":[1,2],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def key_of(settings: Mapping[str, Any]) -> str:
    """Return the key of a trial's settings: what differs from the defaults of recipes, as canonical JSON.

    A setting that a later lorank adds thus leaves the keys of older trials as they are; one whose default it changes
    does not, for the settings hold the value that the trial had.
    """
    defaults = _defaults()

    def own(section: str, value: Any) -> Any:
        usual = defaults.get(section)
        if not isinstance(value, Mapping) or not isinstance(usual, Mapping):
            return value
        return {key: each for key, each in value.items() if key not in usual or each != usual[key]}

    recipe = {key: own(key, value) for key, value in settings["recipe"].items()}
    changed = {key: value for key, value in recipe.items() if value not in ({}, defaults.get(key))}
    return canonical_json({**settings, "recipe": changed})


@cache
def _defaults() -> dict[str, Any]:
    return as_plain(RecipeFile())


def trials_of(
    experiment: Experiment, row: Row, seed: int, value: float | None = None, recipe: RecipeFile | None = None
) -> list[Trial]:
    """Return the trials of a row at one seed: one, or one for each fold.

    Args:
        experiment: The experiment.
        row: The row.
        seed: The seed.
        value: The value of the row's swept key; None where nothing is swept.
        recipe: The recipe in place of the row's own, where it was matched to another row.
    """
    recipe = row.recipe if recipe is None else recipe
    if row.sweep is not None and value is not None:
        recipe = override(recipe, {row.sweep.key: value})
    recipe = replace(recipe, seed=seed, judge_test=False)
    whole = experiment.folds is None or needs_no_folds(row.external)
    parts: list[int | None] = [None] if whole else list(range(1, (experiment.folds or 0) + 1))
    return [
        Trial(
            row.name,
            recipe,
            row.external,
            experiment.measures,
            experiment.split,
            experiment.folds,
            part,
            both_ways=row.both_ways,
        )
        for part in parts
    ]


def needs_no_folds(external: External | None) -> bool:
    """Return whether a row learns and chooses nothing, so that one trial over all queries is the same as all folds."""
    return external is not None and (
        external.run is not None or external.strategy is not None or external.ranker == "bm25"
    )
