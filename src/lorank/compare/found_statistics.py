"""What the statistics of an experiment hold: rows, pairs of rows, measures, collections."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from lorank.compare.judged_values import JudgedValues
from lorank.ranking.metrics.equivalence import Probabilities

Bounds = tuple[float, float]


@dataclass(frozen=True)
class RowStatistics:
    """One row on one measure; ``interval`` is None with one group, ``seed_sd`` with one seed."""

    name: str
    mean: float
    interval: Bounds | None
    seeds: int
    seed_sd: float | None
    standard_error: float
    degrees: float


@dataclass(frozen=True)
class PairStatistics:
    """A paired comparison: ``difference`` = row - baseline over the same queries.

    Attributes:
        row: The row.
        baseline: The row that it is compared with.
        difference: The difference of their means.
        interval: The differences that the test does not reject, or, where a row has several seeds, the interval of the
            bootstrap over groups and seeds; None where too few groups can reject any.
        p: The two-sided p; NaN with one group.
        p_corrected: The p corrected for all comparisons of the collection and measure.
        test: "randomization over groups", "t over groups and seeds" or "none".
        wins: The number of queries with a higher value; ``ties`` and ``losses`` likewise.
        ties: Queries with the same value.
        losses: Queries with a lower value.
        standard_error: The standard error of the difference.
        degrees: Its degrees of freedom.
        detectable: The true difference that one such test finds with the chance ``power``; None with one group.
        detectable_corrected: The same at the level of the strictest step of the correction.
        practical: The chances of worse, equivalent and better by a region of equivalence; None where none was given.
        finding: "better" or "worse" where the corrected p is below the level, else "tie"; "untested" without a p.
    """

    row: str
    baseline: str
    difference: float
    interval: Bounds | None
    p: float
    p_corrected: float
    test: str
    wins: int
    ties: int
    losses: int
    standard_error: float
    degrees: float
    detectable: float | None
    detectable_corrected: float | None
    practical: Probabilities | None
    finding: str

    def reversed(self) -> "PairStatistics":
        """Return the same comparison seen from the other row."""
        turned = {"better": "worse", "worse": "better"}
        bounds = None if self.interval is None else (-self.interval[1], -self.interval[0])
        chances = self.practical and Probabilities(
            self.practical.better, self.practical.equivalent, self.practical.worse
        )
        return replace(
            self,
            row=self.baseline,
            baseline=self.row,
            difference=-self.difference,
            interval=bounds,
            wins=self.losses,
            losses=self.wins,
            practical=chances,
            finding=turned.get(self.finding, self.finding),
        )


@dataclass(frozen=True)
class MeasureStatistics:
    """The rows, best first, and the tested pairs of one measure."""

    measure: str
    rows: Sequence[RowStatistics]
    pairs: Sequence[PairStatistics]

    def row(self, name: str) -> RowStatistics:
        """Return the row of a name."""
        return next(row for row in self.rows if row.name == name)

    def pair(self, row: str, baseline: str) -> PairStatistics | None:
        """Return the comparison of two rows, seen from ``row``; None where they were not compared."""
        for pair in self.pairs:
            if (pair.row, pair.baseline) == (row, baseline):
                return pair
            if (pair.baseline, pair.row) == (row, baseline):
                return pair.reversed()
        return None


@dataclass(frozen=True)
class CollectionStatistics:
    """One collection: its queries and groups, the statistics by measure, failed rows, and what a reader must know."""

    data: str
    queries: int
    groups: int
    measures: Mapping[str, MeasureStatistics]
    failed: Mapping[str, str]
    baseline: str | None
    notes: Sequence[str]
    values: JudgedValues | None = field(repr=False, default=None)
