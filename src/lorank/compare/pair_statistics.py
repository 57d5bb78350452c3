"""Rows and pairs of rows on one measure: means, intervals, tests, and the smallest difference to be found."""

import math
from collections.abc import Sequence

import numpy as np

from lorank.compare.found_statistics import Bounds, MeasureStatistics, PairStatistics, RowStatistics
from lorank.compare.judged_values import JudgedValues
from lorank.compare.statistics_settings import StatisticsSettings
from lorank.ranking.metrics.compare import TIE
from lorank.ranking.metrics.corrections import CORRECTIONS
from lorank.ranking.metrics.equivalence import posterior_means, practical_probabilities
from lorank.ranking.metrics.groups import sums
from lorank.ranking.metrics.hierarchical import (
    Floats,
    hierarchical_bootstrap,
    spread,
    t_test_over_levels,
    widened_interval,
)
from lorank.ranking.metrics.power import minimal_detectable_difference
from lorank.ranking.metrics.randomization_interval import randomization_interval
from lorank.ranking.metrics.significance import randomization_test


def compare_rows(
    judged: JudgedValues, measure: str, pairs: Sequence[tuple[str, str]], settings: StatisticsSettings
) -> MeasureStatistics:
    """Return the rows, best first, and the tested pairs of one measure.

    Args:
        judged: The values of the rows.
        measure: The measure.
        pairs: The names of each row and of what it is compared with.
        settings: How rows are compared.
    """
    names = list(judged.rows)
    values = [judged.values(name, measure) for name in names]
    rng = np.random.default_rng(settings.seed)
    drawn = hierarchical_bootstrap(values, judged.member, rng=rng, resamples=settings.resamples)
    inverted = _bounds_of_single_seeds(names, values, judged, settings)
    rows = [
        _row(name, v, drawn[:, k], inverted.get(name), judged, settings)
        for k, (name, v) in enumerate(zip(names, values))
    ]
    posterior = None
    if settings.rope is not None and judged.groups > 1:
        posterior = posterior_means(values, judged.member, rng=rng, draws=settings.resamples)
    compared = _compare(names, values, drawn, posterior, pairs, judged, settings)
    return MeasureStatistics(measure, sorted(rows, key=lambda row: -row.mean), compared)


def _bounds_of_single_seeds(
    names: Sequence[str], values: Sequence[Floats], judged: JudgedValues, settings: StatisticsSettings
) -> dict[str, Bounds]:
    """Return the interval of each row with one seed: the means that the randomisation test does not reject."""
    single = [k for k, each in enumerate(values) if each.shape[1] == 1]
    if not single or judged.groups < 2:
        return {}
    low, high = _bounds(np.hstack([values[k] for k in single]), judged, settings).tolist()
    return {names[k]: (low[place], high[place]) for place, k in enumerate(single)}


def _row(
    name: str,
    values: Floats,
    drawn: Floats,
    inverted: Bounds | None,
    judged: JudgedValues,
    settings: StatisticsSettings,
) -> RowStatistics:
    found, mean, seeds = spread(values, judged.member), float(values.mean()), values.shape[1]
    interval = None
    if judged.groups > 1:
        bounds = inverted or widened_interval(drawn, mean, found.degrees_of_resamples, settings.confidence)
        inside = values.min() >= 0 and values.max() <= 1
        bounds = (max(0.0, bounds[0]), min(1.0, bounds[1])) if inside else bounds
        interval = bounds if math.isfinite(bounds[0]) and math.isfinite(bounds[1]) else None
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
    intervals = [
        widened_interval(drawn[:, i] - drawn[:, j], float(d.mean()), s.degrees_of_resamples, settings.confidence)
        if math.isfinite(s.variance)
        else None
        for (i, j), d, s in zip(index, differences.T, spreads)
    ]
    if judged.groups > 1 and any(one_seed):
        flipped, bounds = _randomise(differences[:, one_seed], judged, settings)
        for column, k in enumerate(np.flatnonzero(one_seed)):
            p[k], (low, high) = float(flipped[column]), bounds[:, column]
            intervals[k] = (float(low), float(high)) if math.isfinite(low) and math.isfinite(high) else None
    corrected = CORRECTIONS[settings.correction](p) if judged.groups > 1 else p
    return [
        _pair(
            (names[i], names[j]),
            differences[:, k],
            intervals[k],
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


def _randomise(differences: Floats, judged: JudgedValues, settings: StatisticsSettings) -> tuple[Floats, Floats]:
    """Return the p of the randomisation test over groups, and the differences that it does not reject."""
    rng = np.random.default_rng(settings.seed)
    p = randomization_test(sums(differences, judged.member), rng=rng, resamples=settings.resamples)
    return np.atleast_1d(p), _bounds(differences, judged, settings)


def _bounds(values: Floats, judged: JudgedValues, settings: StatisticsSettings) -> Floats:
    """Return the means that the randomisation test over groups does not reject, [2, columns]."""
    return randomization_interval(
        values,
        judged.member,
        rng=np.random.default_rng(settings.seed),
        resamples=settings.resamples,
        confidence=settings.confidence,
    )


def _pair(
    pair: tuple[str, str],
    each: Floats,
    interval: Bounds | None,
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
        interval=interval,
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
