r"""The mean over collections, of the rows that have a result on every one of them.

Each of C collections counts the same, and their queries are independent of each other:

    mean = \sum_c m_c / C,   s^2 = \sum_c s_c^2 / C^2,   \nu = s^4 / \sum_c (s_c^2 / C^2)^2 / \nu_c.

Its interval covers other queries and other seeds on these collections, and says nothing about other collections.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from lorank.compare.found_statistics import (
    Bounds,
    CollectionStatistics,
    MeasureStatistics,
    PairStatistics,
    RowStatistics,
)
from lorank.compare.pair_statistics import find_outcome
from lorank.compare.statistics_settings import StatisticsSettings
from lorank.ranking.metrics.corrections import CORRECTIONS
from lorank.ranking.metrics.hierarchical import Spread, t_test_over_levels
from lorank.ranking.metrics.power import minimal_detectable_difference


def average_collections(
    collections: Sequence[CollectionStatistics], measures: Sequence[str], settings: StatisticsSettings
) -> CollectionStatistics | None:
    """Return the mean over collections; None for one collection, or where no two rows have a result on all of them.

    Args:
        collections: The statistics of each collection.
        measures: The measures.
        settings: How rows are compared.
    """
    held = [set(c.values.rows) if c.values else set() for c in collections]
    shared = set.intersection(*held) if held else set()
    if len(collections) < 2 or len(shared) < 2:
        return None
    everyone = dict.fromkeys(name for c in collections for name in [*(c.values.rows if c.values else ()), *c.failed])
    left_out = [name for name in everyone if name not in shared]
    notes = [
        "Each collection counts the same. The intervals cover other queries and seeds on these collections, "
        "and say nothing about other collections."
    ]
    if left_out:
        notes.append(f"Left out, as they lack a result on some collection: {', '.join(left_out)}.")
    found = {m: _measure([c.measures[m] for c in collections], m, shared, settings) for m in measures}
    baselines = {c.baseline for c in collections}
    return CollectionStatistics(
        f"Mean over {len(collections)} collections",
        sum(c.queries for c in collections),
        sum(c.groups for c in collections),
        found,
        {},
        baselines.pop() if len(baselines) == 1 else None,
        notes,
    )


def _measure(
    parts: Sequence[MeasureStatistics], measure: str, shared: set[str], settings: StatisticsSettings
) -> MeasureStatistics:
    rows = [_row([part.row(name) for part in parts], settings) for name in shared]
    asked = [(pair.row, pair.baseline) for pair in parts[0].pairs if {pair.row, pair.baseline} <= shared]
    found = [[part.pair(*names) for part in parts] for names in asked]
    pairs = [_pair([p for p in each if p is not None], settings) for each in found if None not in each]
    known = [k for k, pair in enumerate(pairs) if math.isfinite(pair.p)]
    corrected = dict(zip(known, CORRECTIONS[settings.correction]([pairs[k].p for k in known])))
    return MeasureStatistics(
        measure,
        sorted(rows, key=lambda row: (-row.mean, row.name)),
        [_corrected(pair, corrected.get(k, math.nan), len(known), settings) for k, pair in enumerate(pairs)],
    )


def _pooled(errors: Sequence[float], degrees: Sequence[float]) -> Spread:
    variances = [(error / len(errors)) ** 2 for error in errors]
    total = sum(variances)
    below = sum(v**2 / d for v, d in zip(variances, degrees) if d > 0)
    pooled = total**2 / below if below > 0 and math.isfinite(total) else min(degrees)
    return Spread(total, total, 0.0, pooled, pooled)


def _interval(mean: float, found: Spread, confidence: float) -> Bounds | None:
    from scipy.special import stdtrit

    if not math.isfinite(found.variance):
        return None
    reach = float(stdtrit(found.degrees, (1 + confidence) / 2)) * found.standard_error
    return mean - reach, mean + reach


def _row(parts: Sequence[RowStatistics], settings: StatisticsSettings) -> RowStatistics:
    mean = sum(part.mean for part in parts) / len(parts)
    found = _pooled([part.standard_error for part in parts], [part.degrees for part in parts])
    interval = _interval(mean, found, settings.confidence)
    if interval is not None and all(p.interval is not None and 0 <= p.interval[0] <= p.interval[1] <= 1 for p in parts):
        interval = (max(0.0, interval[0]), min(1.0, interval[1]))
    seeds = min(part.seeds for part in parts)
    return RowStatistics(parts[0].name, mean, interval, seeds, None, found.standard_error, found.degrees)


def _pair(parts: Sequence[PairStatistics], settings: StatisticsSettings) -> PairStatistics:
    difference = sum(part.difference for part in parts) / len(parts)
    found = _pooled([part.standard_error for part in parts], [part.degrees for part in parts])
    p = t_test_over_levels(difference, found)
    return replace(
        parts[0],
        difference=difference,
        interval=_interval(difference, found, settings.confidence),
        p=p,
        test="t over collections, groups and seeds" if math.isfinite(p) else "none",
        wins=sum(part.wins for part in parts),
        ties=sum(part.ties for part in parts),
        losses=sum(part.losses for part in parts),
        standard_error=found.standard_error,
        degrees=found.degrees,
        practical=None,
    )


def _corrected(pair: PairStatistics, p: float, count: int, settings: StatisticsSettings) -> PairStatistics:
    known = math.isfinite(pair.standard_error)
    detectable = [
        minimal_detectable_difference(pair.standard_error, pair.degrees, level=settings.level / m, power=settings.power)
        if known
        else None
        for m in (1, max(1, count))
    ]
    return replace(
        pair,
        p_corrected=p,
        detectable=detectable[0],
        detectable_corrected=detectable[1],
        finding=find_outcome(pair.difference, p, settings.level),
    )
