"""What an experiment measured: the runs of each row, and what a row is.

A *row* is one line of the comparison (a method at the settings that dev chose, or an external run); a *trial* is one
training and judging of it, at one seed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lorank.compare.statistics_settings import StatisticsSettings

PerQuery = Mapping[str, float]
"""Query to the value of one measure."""


@dataclass(frozen=True)
class TrialResult:
    """One trial that was judged.

    Attributes:
        seed: The seed; 0 for what has none.
        dev: Measure to its mean over the dev queries; empty where there is no dev.
        test: Measure to its value for each test query.
        cost: What the trial cost, by name with its unit: train_seconds, cpu_seconds, score_seconds,
            trained_parameters, peak_bytes, bytes, calls; what does not apply is absent.
        curve: Points of the learning curve, (step, dev value of the main measure).
        run: The path of the test run, relative to the experiment's folder; None where none was kept.
    """

    seed: int
    dev: Mapping[str, float]
    test: Mapping[str, PerQuery]
    cost: Mapping[str, float] = field(default_factory=dict)
    curve: Sequence[tuple[int, float]] = ()
    run: str | None = None


@dataclass(frozen=True)
class RowResult:
    """One row of an experiment on one collection.

    Attributes:
        name: The name, unique in its collection.
        data: The name of the collection.
        settings: What distinguishes the row: recipe key to value, the chosen rate included.
        trials: The judged trials, one per seed.
        swept: What dev said of each value of the swept key, (value, dev value); empty where nothing was swept.
        failed: Why the row has no result; None where it has one.
        command: The command that makes the row again.
        seeded: False for what no seed changes (BM25, an external run), whose one trial holds all that there is; for
            others one seed leaves the seeds' spread unknown, which the statistics say.
    """

    name: str
    data: str
    settings: Mapping[str, Any]
    trials: Sequence[TrialResult] = ()
    swept: Sequence[tuple[float, float]] = ()
    failed: str | None = None
    command: str | None = None
    seeded: bool = True


@dataclass(frozen=True)
class ExperimentResult:
    """All that the statistics and the page of an experiment are made of.

    Attributes:
        name: The experiment's name.
        rows: The rows of every collection.
        measures: The measures; the first is the one that dev chooses by.
        groups: Collection to the group of each test query (`lorank.ranking.metrics.groups`).
        baseline: The name of the row that the others are compared with; None compares all pairs.
        texts: Collection to the text of each test query, for the page; may be empty.
        source: The text of the experiment file.
        provenance: When, where and with what it was made: date, machine, versions, command.
        statistics: How the rows are compared.
        examples: Collection to a few queries before and after, as `lorank.reporting.examples.before_and_after` returns
            them for the baseline and the best row; may be empty.
    """

    name: str
    rows: Sequence[RowResult]
    measures: Sequence[str]
    groups: Mapping[str, Mapping[str, str]]
    baseline: str | None = None
    texts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    source: str = ""
    provenance: Mapping[str, str] = field(default_factory=dict)
    statistics: StatisticsSettings = field(default_factory=StatisticsSettings)
    examples: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
