"""A comparison as plain records, one per collection, row and measure: the frame behind every table and export."""

import math
from collections.abc import Mapping
from typing import Any

from lorank.compare.found_statistics import CollectionStatistics, PairStatistics
from lorank.compare.results import ExperimentResult, RowResult
from lorank.compare.statistics import ExperimentStatistics, compute_statistics

Record = dict[str, Any]


def to_records(result: ExperimentResult, found: ExperimentStatistics | None = None) -> list[Record]:
    """Return one record per collection, row and measure, ready for ``pandas.DataFrame``.

    Keys: collection, row, measure, queries, groups, seeds, mean, low, high, seed_sd, baseline, difference,
    difference_low, difference_high, p, p_corrected, correction, finding, test, wins, ties, losses, detectable,
    p_worse, p_equivalent, p_better, then the mean cost of a trial by name, ``failed`` and ``command``. What does not
    apply is None. Where all pairs are compared, the difference is that from the baseline, if there is one;
    `pair_records` has the others.

    Args:
        result: The experiment.
        found: Its statistics; None computes them.
    """
    found = compute_statistics(result) if found is None else found
    costs = list(dict.fromkeys(key for row in result.rows for trial in row.trials for key in trial.cost))
    records = []
    for collection in found.collections:
        rows = {row.name: row for row in result.rows if row.data == collection.data}
        for measure, of_measure in collection.measures.items():
            for row in of_measure.rows:
                records.append(
                    _record(collection, measure, row.name, result)
                    | _costs(rows[row.name], costs)
                    | {"failed": None, "command": rows[row.name].command}
                )
        for name, why in collection.failed.items():
            records.append(
                dict.fromkeys(_KEYS)
                | {"collection": collection.data, "row": name}
                | dict.fromkeys(costs)
                | {"failed": why, "command": rows[name].command}
            )
    return records


_KEYS = (
    *("collection", "row", "measure", "queries", "groups", "seeds", "mean", "low", "high", "seed_sd", "baseline"),
    *("difference", "difference_low", "difference_high", "p", "p_corrected", "correction", "finding", "test"),
    *("wins", "ties", "losses", "detectable", "p_worse", "p_equivalent", "p_better"),
)


def _record(collection: CollectionStatistics, measure: str, name: str, result: ExperimentResult) -> Record:
    of_measure = collection.measures[measure]
    row = of_measure.row(name)
    pair = of_measure.pair(name, collection.baseline) if collection.baseline else None
    low, high = row.interval or (None, None)
    return dict.fromkeys(_KEYS) | {
        "collection": collection.data,
        "row": name,
        "measure": measure,
        "queries": collection.queries,
        "groups": collection.groups,
        "seeds": row.seeds,
        "mean": row.mean,
        "low": low,
        "high": high,
        "seed_sd": row.seed_sd,
        **({} if pair is None else pair_values(pair, result.statistics.correction)),
    }


def pair_values(pair: PairStatistics, correction: str) -> Record:
    """Return what a comparison says, by the keys of `to_records`."""
    low, high = pair.interval or (None, None)
    chances = pair.practical
    return {
        "baseline": pair.baseline,
        "difference": pair.difference,
        "difference_low": low,
        "difference_high": high,
        "p": _known(pair.p),
        "p_corrected": _known(pair.p_corrected),
        "correction": correction,
        "finding": pair.finding,
        "test": pair.test,
        "wins": pair.wins,
        "ties": pair.ties,
        "losses": pair.losses,
        "detectable": pair.detectable,
        "p_worse": chances and chances.worse,
        "p_equivalent": chances and chances.equivalent,
        "p_better": chances and chances.better,
    }


def pair_records(found: ExperimentStatistics, correction: str) -> list[Record]:
    """Return one record per collection, measure and compared pair, with the keys of `to_records` that apply."""
    return [
        {"collection": collection.data, "measure": measure, "row": pair.row} | pair_values(pair, correction)
        for collection in [*found.collections, *([found.mean] if found.mean else [])]
        for measure, of_measure in collection.measures.items()
        for pair in of_measure.pairs
    ]


def mean_costs(row: RowResult) -> Mapping[str, float]:
    """Return the mean over the trials of each cost that one of them has."""
    keys = dict.fromkeys(key for trial in row.trials for key in trial.cost)
    held = {key: [trial.cost[key] for trial in row.trials if key in trial.cost] for key in keys}
    return {key: sum(values) / len(values) for key, values in held.items()}


def _costs(row: RowResult, keys: list[str]) -> Record:
    costs = mean_costs(row)
    return {key: _known(costs.get(key)) for key in keys}


def _known(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
