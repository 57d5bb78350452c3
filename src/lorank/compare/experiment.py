"""An experiment as it was asked for: its rows, what is swept, its seeds and folds, and what it is compared with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from lorank.compare.random_search import RandomSearch
from lorank.compare.statistics_settings import StatisticsSettings
from lorank.training.recipe import RecipeFile

MEASURES = ("nDCG@10", "RR@10", "R@100")
"""The measures of an experiment that names none."""

Match = Literal["trained_parameters", "minutes", "tokens"]


@dataclass(frozen=True)
class Sweep:
    """A key whose value dev chooses.

    Attributes:
        key: The recipe key, as section.key.
        values: The values that are tried first, in ascending order.
        per: "method" chooses once for a row, at its first seed; "seed" chooses for every seed anew.
        edges: How many further values are tried, each one step beyond the best where that is the outermost.
    """

    key: str
    values: tuple[float, ...]
    per: Literal["method", "seed"] = "method"
    edges: int = 2

    def beyond(self, tried: Sequence[float], best: float) -> float | None:
        """Return the next value outside ``tried``, by the step of the two values at that end; None for one inside.

        The step is a factor where all values are above 0, and a difference elsewhere.

        Args:
            tried: The values that were tried.
            best: The best of them.

        >>> Sweep("training.lr", (1e-3, 1e-2)).beyond([1e-3, 1e-2], 1e-2)
        0.1
        >>> Sweep("adapter.rank", (4, 8, 16)).beyond([4, 8, 16], 4), Sweep("adapter.rank", (4, 8)).beyond([2, 4, 8], 4)
        (2, None)
        """
        ordered = sorted(tried)
        if len(ordered) < 2 or best not in (ordered[0], ordered[-1]):
            return None
        edge, inner = (ordered[0], ordered[1]) if best == ordered[0] else (ordered[-1], ordered[-2])
        further = edge * edge / inner if ordered[0] > 0 else 2 * edge - inner
        if all(isinstance(value, int) for value in self.values):
            return None if round(further) in (0, edge) else round(further)
        return float(f"{further:.6g}")


@dataclass(frozen=True)
class External:
    """A row that is not trained: a run, or a ranker that scores or that a strategy asks.

    Attributes:
        run: The path of a run file.
        ranker: The name of a ranker, as `lorank.tuned.naming.recognise` reads it.
        strategy: The strategy that asks the ranker; None where its scores are taken.
        budget: What a query may cost a strategy, such as "calls=50".
        options: The options of the strategy.
        top: How many first places matter to the strategy.
        mixed: Whether the ranker's score is added to the first stage's, with the weight that dev chooses.
    """

    run: str | None = None
    ranker: str | None = None
    strategy: str | None = None
    budget: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    top: int = 10
    mixed: bool = True


@dataclass(frozen=True)
class Row:
    """One line of the comparison on one collection.

    Attributes:
        name: The name, unique in its collection.
        settings: What distinguishes the row, as section.key.
        recipe: The recipe of its trials, but for the seed and the swept key; of an external row it says how texts are
            read and what the first stage is.
        seeds: The seeds of its trials.
        sweep: What dev chooses; None where nothing is swept.
        external: What is judged in place of a training; None for a row that is trained.
        search: What is drawn, of which dev chooses; None where nothing is.
        both_ways: Whether a text is scored as a query for the other too, and the mean counts (`BothWays`).
    """

    name: str
    settings: Mapping[str, Any]
    recipe: RecipeFile
    seeds: tuple[int, ...] = (0,)
    sweep: Sweep | None = None
    external: External | None = None
    search: RandomSearch | None = None
    both_ways: bool = False

    @property
    def data(self) -> str:
        """The collection, as the file names it."""
        assert self.recipe.data is not None
        return self.recipe.data


@dataclass(frozen=True)
class Experiment:
    """What is compared.

    Attributes:
        name: The experiment's name.
        rows: The rows of every collection.
        measures: The measures; dev chooses by the first.
        baseline: The name of the row that the others are compared with; None compares all pairs.
        folds: In how many folds the judged queries are divided; None where the collection's own splits are used.
        split: The judged split.
        match: What every row is given as much of as the baseline has; None leaves the rows as they are.
        source: The text of the experiment file.
        statistics: How the rows are compared.
        goal: A share of what the baseline gains on dev, which every row's learning curve is to reach; None sets none.
    """

    name: str
    rows: tuple[Row, ...]
    measures: tuple[str, ...] = MEASURES
    baseline: str | None = None
    folds: int | None = None
    split: str = "test"
    match: Match | None = None
    source: str = ""
    statistics: StatisticsSettings = field(default_factory=StatisticsSettings)
    goal: float | None = None

    @property
    def collections(self) -> tuple[str, ...]:
        """The collections, in the order of the rows."""
        return tuple(dict.fromkeys(row.data for row in self.rows))

    def reference(self, data: str) -> Row | None:
        """Return the row on ``data`` that others are matched to: the baseline, or else the first that is trained."""
        rows = [row for row in self.rows if row.data == data and row.external is None]
        named = [row for row in rows if row.name == self.baseline]
        return next(iter(named or rows), None)
