"""Costs, learning curves and swept values of rows, for the page of an experiment."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from lorank.compare.found_statistics import CollectionStatistics
from lorank.compare.records import mean_costs
from lorank.compare.results import ExperimentResult, RowResult
from lorank.reporting.comparison_charts import Priced, SmallCurve, pareto_chart, small_curve
from lorank.reporting.numbers import count, duration, is_known, size
from lorank.reporting.sections import Chart, both_widths

MOST_POINTS, MOST_LINES = 30_000, 600

Writer = Callable[[float | None], str]

COSTS: dict[str, tuple[str, Writer]] = {
    "train_seconds": ("Training time", duration),
    "cpu_seconds": ("CPU time", duration),
    "score_seconds": ("Scoring time", duration),
    "step_seconds": ("Time of a step", duration),
    "tuning_seconds": ("Time of all trials", duration),
    "steps_to_goal": ("Steps to the goal", count),
    "trained_tokens": ("Tokens trained on", count),
    "trained_parameters": ("Trained values", count),
    "factored_values": ("Values of the compressed layers", count),
    "peak_bytes": ("Peak memory", size),
    "bytes": ("Size on disk", size),
    "calls": ("Calls", count),
}
"""Heading and format of each known cost; others are headed by their own key."""

PRICES = ("train_seconds", "trained_parameters", "peak_bytes")
"""The costs that quality is drawn against."""


def draw_paretos(rows: Sequence[RowResult], collection: CollectionStatistics, measure: str) -> list[Chart]:
    means = {row.name: row.mean for row in collection.measures[measure].rows}
    charts = []
    for key in PRICES:
        costs = {row.name: _price(row, key) for row in rows}
        priced = [Priced(name, cost, means[name]) for name, cost in costs.items() if cost is not None]
        if len(priced) < 2 or not any(point.cost for point in priced):
            continue
        heading, write = COSTS[key]
        charts.append(
            both_widths(
                lambda width, p=priced, h=heading, w=write: pareto_chart(  # type: ignore[misc]
                    p, measure, h, width, w, collection.baseline
                )
            )
        )
    return charts


def _price(row: RowResult, key: str) -> float | None:
    """Return the mean cost of a row; what nothing was trained for costs no training."""
    untrained = not row.seeded and key in ("train_seconds", "trained_parameters")
    return mean_costs(row).get(key, 0.0 if untrained else None)


def list_costs(rows: Sequence[RowResult], collection: CollectionStatistics, measure: str) -> dict[str, Any]:
    costs = {row.name: mean_costs(row) for row in rows}
    keys = [
        k
        for k in dict.fromkeys([*COSTS, *(k for c in costs.values() for k in c)])
        if any(k in c for c in costs.values())
    ]
    heads = [
        (COSTS[k][0], k, COSTS[k][1]) if k in COSTS else (k.replace("_", " ").capitalize(), k, _bare) for k in keys
    ]
    order = [row.name for row in collection.measures[measure].rows if row.name in costs]
    return {"costs": heads, "cost_rows": [(name, costs[name]) for name in order]}


def _bare(value: float | None) -> str:
    return f"{value:,.4g}" if is_known(value) else "–"


def draw_curves(
    rows: Sequence[RowResult], collection: CollectionStatistics, result: ExperimentResult, measure: str
) -> dict[str, Any]:
    """Return the learning curves and the swept values as small pictures with one vertical axis each."""
    order = {row.name: k for k, row in enumerate(collection.measures[measure].rows)}
    rows = sorted(rows, key=lambda row: order[row.name])
    seeds = max(3, MOST_LINES // len(result.rows))
    lines = sum(min(seeds, len(row.trials)) for row in result.rows) or 1
    most = max(12, min(60, MOST_POINTS // lines))
    learned = {
        row.name: SmallCurve(
            [[(float(s), v) for s, v in t.curve if is_known(v)] for t in row.trials[:seeds] if t.curve]
        )
        for row in rows
        if any(t.curve for t in row.trials)
    }
    swept = {row.name: _swept(row) for row in rows if len(row.swept) > 1}
    return {
        "most_seeds": seeds,
        "curves": _small(learned, "step", f"{measure} on dev", most),
        "swept": _small({k: v for k, v in swept.items() if v.lines[0]}, "value", f"{measure} on dev", most),
    }


def _swept(row: RowResult) -> SmallCurve:
    points = sorted((float(x), y) for x, y in row.swept if is_known(x) and is_known(y))
    return SmallCurve([points], max(points, key=lambda p: p[1], default=None), logarithmic=True, dots=True)


def _small(curves: Mapping[str, SmallCurve], x_name: str, y_name: str, most: int) -> list[tuple[str, Markup]]:
    values = [y for curve in curves.values() for points in curve.lines for _, y in points]
    if not values:
        return []
    bounds = (min(values), max(values))
    return [(name, small_curve(curve, bounds, x_name, y_name, most)) for name, curve in curves.items()]
