"""The statistics of one collection: rows, pairs of rows, and the smallest difference that could have been shown."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np

from lorank.compare.judged_values import JudgedValues
from lorank.compare.statistics_settings import StatisticsSettings
from lorank.ranking.metrics.compare import TIE
from lorank.ranking.metrics.corrections import CORRECTIONS
from lorank.ranking.metrics.equivalence import Probabilities, posterior_means, practical_probabilities
from lorank.ranking.metrics.groups import sums
from lorank.ranking.metrics.hierarchical import (
    Floats,
    hierarchical_bootstrap,
    spread,
    t_test_over_levels,
    widened_interval,
)
from lorank.ranking.metrics.power import minimal_detectable_difference
from lorank.ranking.metrics.significance import randomization_test

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
        interval: Its interval over groups and seeds; None with one group.
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


def compare_collection(
    judged: JudgedValues, measures: Sequence[str], baseline: str | None, settings: StatisticsSettings
) -> CollectionStatistics:
    """Return the statistics of one collection.

    Args:
        judged: The values of its rows.
        measures: The measures.
        baseline: The row that the others are compared with; None compares all pairs.
        settings: How rows are compared.
    """
    notes = list(judged.notes)
    names = list(judged.rows)
    if baseline is not None and baseline not in judged.rows:
        why = f"failed: {judged.failed[baseline]}" if baseline in judged.failed else "is no row of this collection"
        notes.append(f"The baseline {baseline} {why}. The comparisons with it are left out.")
    if judged.groups == 1:
        notes.append("All queries form one group, of which no interval and no test can be computed.")
    elif (
        judged.rows
        and 2.0 ** (1 - judged.groups) > settings.level
        and all(len(r.trials) < 2 for r in judged.rows.values())
    ):
        notes.append(f"With {judged.groups} groups no randomisation test can reach the level {settings.level:g}.")
    if len(names) == 1:
        notes.append(f"{names[0]} is the only row with a result, so nothing is compared.")
    single = [name for name, row in judged.rows.items() if row.seeded and len(row.trials) == 1]
    if single:
        notes.append(
            f"{'Every row' if len(single) == len(names) > 1 else ', '.join(single)} has one seed: "
            "how far another seed would move it is not covered by its intervals and tests."
        )
    pairs = _pairs(names, baseline, settings)
    found = {measure: _measure(judged, measure, pairs, settings) for measure in measures} if names else {}
    return CollectionStatistics(
        judged.data,
        len(judged.queries),
        judged.groups if names else 0,
        found,
        judged.failed,
        baseline if baseline in judged.rows else None,
        notes,
        judged,
    )


def _pairs(names: Sequence[str], baseline: str | None, settings: StatisticsSettings) -> list[tuple[str, str]]:
    if baseline is None or settings.pairs == "all":
        both = [(later, earlier) for earlier, later in combinations(names, 2)]
        return [(b, a) if a == baseline else (a, b) for a, b in both]
    return [(name, baseline) for name in names if name != baseline] if baseline in names else []


def _measure(
    judged: JudgedValues, measure: str, pairs: Sequence[tuple[str, str]], settings: StatisticsSettings
) -> MeasureStatistics:
    names = list(judged.rows)
    values = [judged.values(name, measure) for name in names]
    rng = np.random.default_rng(settings.seed)
    drawn = hierarchical_bootstrap(values, judged.member, rng=rng, resamples=settings.resamples)
    rows = [_row(name, v, drawn[:, k], judged, settings) for k, (name, v) in enumerate(zip(names, values))]
    posterior = None
    if settings.rope is not None and judged.groups > 1:
        posterior = posterior_means(values, judged.member, rng=rng, draws=settings.resamples)
    compared = _compare(names, values, drawn, posterior, pairs, judged, settings)
    return MeasureStatistics(measure, sorted(rows, key=lambda row: -row.mean), compared)


def _row(name: str, values: Floats, drawn: Floats, judged: JudgedValues, settings: StatisticsSettings) -> RowStatistics:
    found, mean, seeds = spread(values, judged.member), float(values.mean()), values.shape[1]
    interval = None
    if judged.groups > 1:
        bounds = widened_interval(drawn, mean, found.degrees, settings.confidence)
        inside = values.min() >= 0 and values.max() <= 1
        interval = (max(0.0, bounds[0]), min(1.0, bounds[1])) if inside else bounds
    sd = float(values.mean(0).std(ddof=1)) if seeds > 1 else None
    return RowStatistics(name, mean, interval, seeds, sd, found.standard_error, found.degrees)


def _compare(
    names: Sequence[str],
    values: Sequence[Floats],
    drawn: Floats,
    posterior: Floats | None,
    pairs: Sequence[tuple[str, str]],
    judged: JudgedValues,
    settings: StatisticsSettings,
) -> list[PairStatistics]:
    if not pairs:
        return []
    place = {name: k for k, name in enumerate(names)}
    index = [(place[a], place[b]) for a, b in pairs]
    means = np.column_stack([v.mean(1) for v in values])
    differences = means[:, [i for i, _ in index]] - means[:, [j for _, j in index]]
    differences[np.abs(differences) <= TIE] = 0.0
    one_seed = [values[i].shape[1] == values[j].shape[1] == 1 for i, j in index]
    spreads = [spread(values[i], judged.member, values[j]) for i, j in index]
    p = [t_test_over_levels(float(d.mean()), s) for d, s in zip(differences.T, spreads)]
    if judged.groups > 1 and any(one_seed):
        flipped = randomization_test(
            sums(differences[:, one_seed], judged.member),
            rng=np.random.default_rng(settings.seed),
            resamples=settings.resamples,
        )
        for k, value in zip(np.flatnonzero(one_seed), np.atleast_1d(flipped)):
            p[k] = float(value)
    corrected = CORRECTIONS[settings.correction](p) if judged.groups > 1 else p
    return [
        _pair(
            (names[i], names[j]),
            differences[:, k],
            drawn[:, i] - drawn[:, j],
            None if posterior is None else posterior[:, i] - posterior[:, j],
            (p[k], corrected[k], len(pairs)),
            ("randomization over groups" if one_seed[k] else "t over groups and seeds")
            if judged.groups > 1
            else "none",
            (spreads[k].standard_error, spreads[k].degrees),
            settings,
        )
        for k, (i, j) in enumerate(index)
    ]


def _pair(
    pair: tuple[str, str],
    each: Floats,
    drawn: Floats,
    posterior: Floats | None,
    tested: tuple[float, float, int],
    test: str,
    error: tuple[float, float],
    settings: StatisticsSettings,
) -> PairStatistics:
    difference, (p, corrected, count) = float(each.mean()), tested
    known = math.isfinite(error[0])
    detectable = [
        minimal_detectable_difference(*error, level=settings.level / m, power=settings.power) if known else None
        for m in (1, count)
    ]
    return PairStatistics(
        row=pair[0],
        baseline=pair[1],
        difference=difference,
        interval=widened_interval(drawn, difference, error[1], settings.confidence) if known else None,
        p=p,
        p_corrected=corrected,
        test=test,
        wins=int((each > 0).sum()),
        ties=int((each == 0).sum()),
        losses=int((each < 0).sum()),
        standard_error=error[0],
        degrees=error[1],
        detectable=detectable[0],
        detectable_corrected=detectable[1],
        practical=None
        if posterior is None or settings.rope is None
        else practical_probabilities(posterior, settings.rope),
        finding=find_outcome(difference, corrected, settings.level),
    )


def find_outcome(difference: float, p: float, level: float) -> str:
    """Return better, worse, tie, or untested where there is no p."""
    if not math.isfinite(p):
        return "untested"
    if p >= level or difference == 0:
        return "tie"
    return "better" if difference > 0 else "worse"
