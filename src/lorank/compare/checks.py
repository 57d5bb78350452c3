"""What is checked of an experiment before anything runs: names, options, files, splits and bases of every row."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lorank import index
from lorank.compare.experiment import Experiment, External, Row
from lorank.compare.shared_work import SEED
from lorank.data.collection import Collection
from lorank.data.trec import read_run
from lorank.errors import LorankError, UsageError
from lorank.training.checks import check_names, check_options
from lorank.training.cross_validation import divide
from lorank.training.recipe import override
from lorank.tuned.naming import recognise


def check_rows(experiment: Experiment, place: str) -> None:
    """Raise UsageError for the first row with a name or an option that does not exist, or a file that is missing.

    Args:
        experiment: The experiment.
        place: The experiment file, for messages.
    """
    for row in experiment.rows:
        where = f"{place}: row {row.name!r}"
        try:
            if row.external is not None:
                index.check_data(row.data, "data")
                _check_external(row.external)
                continue
            for chosen in _choices(row):
                recipe = override(row.recipe, chosen)
                check_names(recipe, recipe_file=Path(place))
                if recipe.base is not None or "options" in row.settings:
                    check_options(recipe)
        except LorankError as error:
            if str(error).startswith(place):
                raise
            raise UsageError(f"{where}: {error}") from error


def _choices(row: Row) -> list[dict[str, Any]]:
    """Return the values by key that dev may choose for a row: those that are swept, or those that are drawn."""
    if row.sweep is not None:
        return [{row.sweep.key: value} for value in row.sweep.values]
    return [{}] if row.search is None else list(row.search.configurations())


def check_collections(experiment: Experiment, collections: Mapping[str, Collection], place: str) -> None:
    """Raise UsageError where a collection lacks a split that the experiment needs, or queries for its folds or a run.

    Args:
        experiment: The experiment.
        collections: Every collection of the experiment, by the name in the file.
        place: The experiment file, for messages.
    """
    for name, collection in collections.items():
        rows = [row for row in experiment.rows if row.data == name]
        split = experiment.split
        if split not in collection.splits or not any(collection.splits[split].qrels.values()):
            there = ", ".join(part for part, each in collection.splits.items() if any(each.qrels.values())) or "none"
            raise UsageError(f"{place}: split: {name} has no judged {split!r} split; it has: {there}")
        trained = [row for row in rows if row.external is None]
        if experiment.folds is None and trained and "train" not in collection.splits:
            swept = next((row.sweep.key for row in trained if row.sweep is not None), None)
            what = (
                f"{swept}: is swept on dev, and {name} has neither a dev nor a training split"
                if swept
                else f"data: {name} has no training split"
            )
            raise UsageError(f"{place}: {what}; divide its judged queries with folds = 5")
        if experiment.folds is not None:
            try:
                divide(collection, experiment.folds, SEED, split)
            except UsageError as error:
                raise UsageError(f"{place}: folds: {error}") from error
        for row in rows:
            if row.external is not None and row.external.run is not None:
                _check_run(row, collection, split, place)


def _check_external(external: External) -> None:
    if external.ranker is not None:
        named = recognise(external.ranker, "ranker")
        if named.kind == "judge" and external.strategy is None:
            raise UsageError(
                f'ranker: {external.ranker} is asked by a strategy; add strategy = "jointrank", or another'
            )
    if external.strategy is not None:
        from lorank.ranking.judges import Budget
        from lorank.ranking.strategies.registry import check_strategy

        index.check("strategy", external.strategy, "strategy")
        check_strategy(external.strategy, dict(external.options))
        if external.budget is not None:
            Budget.parse(external.budget)
    if external.run is not None and not Path(external.run).is_file():
        raise UsageError(f"run: there is no file {external.run}; give the path of a run")


def _check_run(row: Row, collection: Collection, split: str, place: str) -> None:
    assert row.external is not None
    assert row.external.run is not None
    found = read_run(row.external.run)
    asked = collection.split(split).queries
    if not found.keys() & asked.keys():
        raise UsageError(
            f"{place}: row {row.name!r}: run: {row.external.run} holds none of the {len(asked)} {split} queries of "
            f"{row.data}; give a run over them"
        )


def check_bases(experiment: Experiment, collections: Mapping[str, Collection], place: str) -> None:
    """Open each base once, so that one that cannot be opened, or does not use a setting, is found before anything runs.

    Args:
        experiment: The experiment.
        collections: Every collection of the experiment, by the name in the file.
        place: The experiment file, for messages.
    """
    from lorank.training.open_recipe import open_recipe_base
    from lorank.training.self_fitting import check_unused_settings

    opened: dict[str, Any] = {}
    for row in experiment.rows:
        recipe = row.recipe
        key = str((recipe.base, recipe.kind, recipe.view, recipe.label, recipe.options, recipe.reading, row.data))
        if row.external is not None:
            continue
        try:
            if key not in opened:
                ranker = open_recipe_base(replace(recipe, seed=row.seeds[0]), collections[row.data])
                opened[key] = None if ranker.trained_by_loop else ranker
            if opened[key] is not None:
                check_unused_settings(opened[key], recipe)
        except LorankError as error:
            raise UsageError(f"{place}: row {row.name!r}: {error}") from error
