"""Tune a recipe: configurations are drawn from ranges and choices, trained for few steps, and the best on dev for more.

All choices are dev's; the test split is not looked at. Which trials are next follows from the search and the ledger, so
that a search that was killed goes on. Each rung trains its configurations from the start: the learning rate's schedule
spans a whole run, so that a run of 27 steps does not begin as one of 9 does.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from lorank.compare.checks import check_collections, check_rows
from lorank.compare.driving import drive
from lorank.compare.experiment import Experiment, Row
from lorank.compare.hyperband import METHODS, Bracket, hyperband, random_search, successive_halving
from lorank.compare.ledger import LEDGER, Ledger, Lines
from lorank.compare.running import make_engine
from lorank.compare.search_space import Dimension, draw_configurations, read_space
from lorank.compare.shared_work import SharedWork
from lorank.compare.trial import Trial, trials_of
from lorank.errors import LorankError, UsageError, unknown_name
from lorank.progress import StageCallback
from lorank.training.recipe import RecipeFile, override
from lorank.training.recipe_text import write_recipe

BEST = "best.toml"


@dataclass(frozen=True)
class Search:
    """A search over recipe keys.

    Attributes:
        recipe: The recipe that is tuned.
        space: The dimensions that are drawn from.
        brackets: The brackets, whose budgets are in units of ``least`` steps.
        least: The steps of a unit of budget, 1 or more.
        seed: The seed of the configurations.
        folds: In how many folds the judged queries are divided; None where the collection has a dev split, or a
            training split to hold one out of.
        split: The judged split that folds divide.
        measure: The measure on dev that decides.
    """

    recipe: RecipeFile
    space: tuple[Dimension, ...]
    brackets: tuple[Bracket, ...]
    least: int
    seed: int = 0
    folds: int | None = None
    split: str = "test"
    measure: str = "nDCG@10"

    def configurations(self) -> list[list[dict[str, Any]]]:
        """Return the configurations that each bracket begins with."""
        drawn = iter(
            draw_configurations(self.space, sum(bracket[0].configurations for bracket in self.brackets), self.seed)
        )
        return [[next(drawn) for _ in range(bracket[0].configurations)] for bracket in self.brackets]

    def steps(self, budget: float) -> int:
        """Return the steps of a budget."""
        return max(1, round(self.least * budget))

    @property
    def most_steps(self) -> int:
        """The steps of the full budget."""
        return self.steps(max(rung.budget for bracket in self.brackets for rung in bracket))


@dataclass(frozen=True)
class Tried:
    """A configuration at one budget: ``dev`` is None while it has not ended, and where it failed."""

    configuration: Mapping[str, Any]
    bracket: int
    steps: int
    trials: Sequence[Trial]
    dev: float | None = None
    failed: str | None = None


@dataclass(frozen=True)
class TuningResult:
    """What a search found.

    Attributes:
        best: The best configuration at the full budget; None where all failed.
        tried: Every configuration at every budget.
        recipe: The path of the best recipe; None where there is none.
        steps: How many steps the search took in all.
    """

    best: Tried | None
    tried: Sequence[Tried]
    recipe: Path | None
    steps: int

    def records(self) -> list[dict[str, Any]]:
        """Return one record for each configuration and budget, the best of the largest budget first."""
        order = sorted(self.tried, key=lambda each: (-each.steps, -(each.dev if each.dev is not None else -1.0)))
        return [
            {**each.configuration, "steps": each.steps, "bracket": each.bracket, "dev": each.dev, "failed": each.failed}
            for each in order
        ]


def make_search(
    recipe: RecipeFile,
    over: Sequence[str],
    *,
    method: str = "hyperband",
    steps: int | None = None,
    least: int | None = None,
    eta: float = 3.0,
    configurations: int | None = None,
    seed: int = 0,
    folds: int | None = None,
    split: str = "test",
) -> Search:
    """Return a search over a recipe.

    Args:
        recipe: The recipe.
        over: The dimensions, as `lorank.compare.search_space.read_dimension` reads them.
        method: "random", "halving" or "hyperband".
        steps: The steps of the full budget; None takes the recipe's.
        least: The steps of the smallest budget; None is a 27th of the full one.
        eta: The factor of the halving.
        configurations: How many configurations random search draws (16 where it is None), and halving begins with.
        seed: The seed of the draw.
        folds: The number of folds; None uses dev.
        split: The judged split that folds divide.

    Raises:
        UsageError: For a budget, a dimension or a method that cannot be.
    """
    if method not in METHODS:
        raise unknown_name("--method", method, METHODS)
    most = recipe.training.steps if steps is None else steps
    if most is None:
        raise UsageError("how long is the longest run? give --steps, or training.steps in the recipe")
    if configurations is not None and (configurations < 1 or method == "hyperband"):
        raise UsageError("--configurations is 1 or more, and of random search and halving; Hyperband has its own")
    space = read_space(over, recipe)
    least = max(1, most // 27) if least is None else least
    if not 1 <= least <= most:
        raise UsageError(f"--least {least}: the smallest budget is from 1 step to the {most} of the full one")
    if method == "random":
        brackets, least = random_search(most, configurations or 16), 1
    elif method == "halving":
        brackets = successive_halving(most / least, eta, configurations)
    else:
        brackets = hyperband(most / least, eta)
    return Search(recipe, space, tuple(brackets), least, seed, folds, split)


def plan_search(search: Search, lines: Lines) -> list[Tried]:
    """Return every configuration at every budget that is known so far; ``dev`` is None of those that have not ended."""
    found: list[Tried] = []
    for number, (bracket, drawn) in enumerate(zip(search.brackets, search.configurations(), strict=True)):
        entrants: Sequence[Mapping[str, Any]] = drawn
        for place, rung in enumerate(bracket):
            tried = [_tried(search, each, number, search.steps(rung.budget), lines) for each in entrants]
            found += tried
            if place + 1 == len(bracket) or not all(_ended(each, lines) for each in tried):
                break
            entrants = promote(tried, bracket[place + 1].configurations)
    return found


def promote(tried: Sequence[Tried], count: int) -> list[Mapping[str, Any]]:
    """Return the ``count`` best configurations on dev, of equal ones the earlier; what failed is not among them."""
    whole = [each for each in tried if each.dev is not None]
    return [each.configuration for each in sorted(whole, key=lambda each: -(each.dev or 0.0))[:count]]


def tune(
    search: Search,
    out: str | Path,
    *,
    workers: int = 1,
    engine: str = "local",
    address: str | None = None,
    overwrite: bool = False,
    on_progress: StageCallback = lambda what, done, total: None,
) -> TuningResult:
    """Run a search, and write the best recipe; the same call goes on where an earlier one was stopped.

    Args:
        search: The search.
        out: The folder of the ledger and of best.toml.
        workers: How many trials run at once.
        engine: "local" or "ray".
        address: The address of a Ray cluster.
        overwrite: True starts anew.
        on_progress: It receives stages, "trials" with the number that has ended and that is known.

    Raises:
        UsageError: For a recipe that cannot be trained, before anything runs.
    """
    folder = Path(out)
    shared = SharedWork(folder, on_progress)
    _check(search, shared)
    if overwrite:
        shutil.rmtree(folder / "shared", ignore_errors=True)
        (folder / LEDGER).unlink(missing_ok=True)
    prints = {str(search.recipe.data): shared.fingerprint(search.recipe)}
    with Ledger(folder / LEDGER, prints) as ledger:

        def pending() -> Iterator[Trial]:
            tried = plan_search(search, ledger.lines)
            trials = {trial.key: trial for each in tried for trial in each.trials}
            on_progress("trials", sum(key in ledger.lines for key in trials), len(trials))
            yield from (trial for key, trial in trials.items() if key not in ledger.lines)

        drive(ledger, make_engine(engine, workers, address, shared, folder, on_progress), pending)
        tried = plan_search(search, ledger.lines)
    return _result(search, tried, folder)


def _result(search: Search, tried: Sequence[Tried], folder: Path) -> TuningResult:
    whole = [each for each in tried if each.dev is not None and each.steps == search.most_steps]
    best = max(whole, key=lambda each: each.dev or 0.0, default=None)
    steps = sum(
        each.steps * len(each.trials) for each in {(e.steps, *(t.key for t in e.trials)): e for e in tried}.values()
    )
    if best is None:
        return TuningResult(None, tried, None, steps)
    recipe = _configured(search, best.configuration, best.steps)
    write_recipe(replace(recipe, out=None, judge_test=True), folder / BEST)
    return TuningResult(best, tried, folder / BEST, steps)


def _configured(search: Search, configuration: Mapping[str, Any], steps: int) -> RecipeFile:
    return override(search.recipe, {**configuration, "training.steps": steps}, "--over")


def _tried(search: Search, configuration: Mapping[str, Any], bracket: int, steps: int, lines: Lines) -> Tried:
    try:
        recipe = _configured(search, configuration, steps)
    except LorankError as error:  # an option of a method that was not drawn with it
        return Tried(configuration, bracket, steps, (), None, str(error))
    row = Row("tune", configuration, recipe, (recipe.seed,))
    made = Experiment("tune", (row,), (search.measure,), folds=search.folds, split=search.split)
    trials = [replace(trial, dev_only=True) for trial in trials_of(made, row, recipe.seed)]
    results = [lines[trial.key].get("result") for trial in trials if trial.key in lines]
    failed = next((str(lines[t.key]["failed"]) for t in trials if "failed" in lines.get(t.key, {})), None)
    dev = [result["dev"][search.measure] for result in results if result is not None]
    return Tried(configuration, bracket, steps, trials, fmean(dev) if len(dev) == len(trials) else None, failed)


def _ended(tried: Tried, lines: Lines) -> bool:
    return all(trial.key in lines for trial in tried.trials)


def _check(search: Search, shared: SharedWork) -> None:
    if search.recipe.data is None:
        raise UsageError("no data; give --data, or `data = ...` in the recipe")
    row = Row("the recipe", {}, search.recipe)
    made = Experiment("tune", (row,), folds=search.folds, split=search.split)
    check_rows(made, "the recipe")
    splits = shared.load(search.recipe).splits
    if search.folds is not None:
        check_collections(made, {row.data: shared.load(search.recipe)}, "the recipe")
    elif "train" not in splits:
        raise UsageError(f"{search.recipe.data} has no training split; divide its judged queries with --folds 5")
