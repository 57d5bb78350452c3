"""What each section of an experiment's page shows, prepared from results and statistics; templates only lay it out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from lorank.compare.collection_statistics import Bounds, CollectionStatistics, PairStatistics
from lorank.compare.findings import Finding, find_sentence
from lorank.compare.records import mean_costs
from lorank.compare.results import ExperimentResult, RowResult
from lorank.compare.summary import explain_power
from lorank.reporting.charts import Rung, difference_bars, difference_glyph, ladder_chart
from lorank.reporting.comparison_charts import (
    Difference,
    Priced,
    SmallCurve,
    difference_matrix,
    pareto_chart,
    small_curve,
)
from lorank.reporting.numbers import count, duration, is_known, size
from lorank.reporting.run_folder import Example
from lorank.reporting.sections import Chart, QueryChange, SideBySide, both_widths, cut, side_by_side

MOST_PAIRS, MOST_GAIN_ROWS, MOST_GAINS, MOST_POINTS, MOST_SEEDS = 200, 12, 8, 30_000, 20

Writer = Callable[[float | None], str]

COSTS: dict[str, tuple[str, Writer]] = {
    "train_seconds": ("Training time", duration),
    "cpu_seconds": ("CPU time", duration),
    "score_seconds": ("Scoring time", duration),
    "trained_parameters": ("Trained values", count),
    "peak_bytes": ("Peak memory", size),
    "bytes": ("Size on disk", size),
    "calls": ("Calls", count),
}
"""Heading and format of each known cost; others are headed by their own key."""

PRICES = ("train_seconds", "trained_parameters", "peak_bytes")
"""The costs that quality is drawn against."""


@dataclass(frozen=True)
class Cell:
    """A row's value of one measure; ``better`` where the corrected test says so against the baseline."""

    mean: float
    interval: Bounds | None
    better: bool


@dataclass(frozen=True)
class ShownRow:
    """A row of the ladder's table; ``pair`` compares it with the baseline."""

    name: str
    seeds: int
    seed_sd: float | None
    cells: Sequence[Cell]
    pair: PairStatistics | None
    glyph: Markup


@dataclass(frozen=True)
class ShownPair:
    """A compared pair on one measure with its small picture."""

    measure: str
    pair: PairStatistics
    glyph: Markup


@dataclass(frozen=True)
class Gain:
    """What changed query by query from one row to another."""

    row: str
    baseline: str
    chart: Chart | None
    gains: Sequence[QueryChange]
    losses: Sequence[QueryChange]
    queries: int
    gained: int
    lost: int


@dataclass(frozen=True)
class Part:
    """The section of one collection; what it lacks is None or empty."""

    id: str
    title: str
    queries: int
    groups: int
    notes: Sequence[str]
    finding: Finding
    failed: Mapping[str, str]
    measure: str
    measures: Sequence[str] = ()
    baseline: str | None = None
    ladder: Chart | None = None
    rows: Sequence[ShownRow] = ()
    power: str = ""
    compared: Sequence[ShownPair] = ()
    compared_in_all: int = 0
    matrix: Markup | None = None
    paretos: Sequence[Chart] = ()
    costs: Sequence[tuple[str, str, Writer]] = ()
    cost_rows: Sequence[tuple[str, Mapping[str, float]]] = ()
    curves: Sequence[tuple[str, Markup]] = ()
    swept: Sequence[tuple[str, Markup]] = ()
    gains: Sequence[Gain] = ()
    gains_left_out: int = 0
    examples: Sequence[SideBySide] = field(default_factory=list)


def prepare_part(result: ExperimentResult, collection: CollectionStatistics, place: int) -> Part:
    """Return the section of one collection, or of the mean over collections.

    Args:
        result: The experiment.
        collection: The statistics of the collection.
        place: The number of the section on the page, from 0.
    """
    measure = result.measures[0]
    head: dict[str, Any] = {
        "id": f"c{place}",
        "title": collection.data,
        "queries": collection.queries,
        "groups": collection.groups,
        "notes": collection.notes,
        "failed": collection.failed,
        "finding": find_sentence(collection, measure),
        "measure": measure,
    }
    if not collection.measures:
        return Part(**head)
    rows = [row for row in result.rows if row.data == collection.data and row.name not in collection.failed]
    shown = _compared(collection, measure)
    gains, left_out = _gains(result, collection, measure)
    return Part(
        **head,
        measures=list(collection.measures),
        baseline=collection.baseline if collection.measures[measure].pairs else None,
        ladder=_ladder(collection, measure),
        rows=_rows(collection, measure),
        power=_power(result, collection, measure),
        compared=shown[:MOST_PAIRS],
        compared_in_all=len(shown),
        matrix=_matrix(collection, measure),
        paretos=_paretos(rows, collection, measure),
        **_cost_table(rows, collection, measure),
        **_pictures(rows, collection, result, measure),
        gains=gains,
        gains_left_out=left_out,
        examples=side_by_side([Example.model_validate(e) for e in result.examples.get(collection.data, ())]),
    )


def _ladder(collection: CollectionStatistics, measure: str) -> Chart:
    nothing = (float("nan"), float("nan"))
    rungs = [Rung(r.name, r.mean, *(r.interval or nothing)) for r in collection.measures[measure].rows]
    return both_widths(lambda width: ladder_chart(rungs, measure, width, accent=collection.baseline))


def _reach(collection: CollectionStatistics) -> float:
    pairs = [pair for of in collection.measures.values() for pair in of.pairs]
    return max((abs(b) for p in pairs for b in (p.difference, *(p.interval or ()))), default=0.0) or 1.0


def _glyph(pair: PairStatistics, reach: float) -> Markup:
    return difference_glyph(pair.difference, pair.interval or (float("nan"), float("nan")), reach)


def _rows(collection: CollectionStatistics, measure: str) -> list[ShownRow]:
    reach, baseline = _reach(collection), collection.baseline
    shown = []
    for row in collection.measures[measure].rows:
        cells = []
        for of in collection.measures.values():
            value, pair = of.row(row.name), of.pair(row.name, baseline) if baseline else None
            cells.append(Cell(value.mean, value.interval, pair is not None and pair.finding == "better"))
        pair = collection.measures[measure].pair(row.name, baseline) if baseline else None
        glyph = Markup("") if pair is None else _glyph(pair, reach)
        shown.append(ShownRow(row.name, row.seeds, row.seed_sd, cells, pair, glyph))
    return shown


def _compared(collection: CollectionStatistics, measure: str) -> list[ShownPair]:
    """Return the pairs that the ladder's table does not show."""
    reach, baseline = _reach(collection), collection.baseline
    return [
        ShownPair(of.measure, pair, _glyph(pair, reach))
        for of in collection.measures.values()
        for pair in of.pairs
        if baseline is None or of.measure != measure or baseline not in (pair.row, pair.baseline)
    ]


def _power(result: ExperimentResult, collection: CollectionStatistics, measure: str) -> str:
    found = sorted(p.detectable for p in collection.measures[measure].pairs if p.detectable is not None)
    return explain_power(found, measure, result.statistics) if found else ""


def _matrix(collection: CollectionStatistics, measure: str) -> Markup | None:
    of = collection.measures[measure]
    if len(of.rows) < 2:
        return None
    names, means = [row.name for row in of.rows], [row.mean for row in of.rows]
    tested = {(p.row, p.baseline): p.finding for p in of.pairs} | {(p.baseline, p.row): p.finding for p in of.pairs}
    return difference_matrix(
        names,
        lambda i, j: Difference(means[i] - means[j], tested.get((names[i], names[j]), "untested")),
        measure,
        room=260,
    )


def _paretos(rows: Sequence[RowResult], collection: CollectionStatistics, measure: str) -> list[Chart]:
    means = {row.name: row.mean for row in collection.measures[measure].rows}
    charts = []
    for key in PRICES:
        priced = [Priced(r.name, mean_costs(r)[key], means[r.name]) for r in rows if key in mean_costs(r)]
        if len(priced) < 2:
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


def _cost_table(rows: Sequence[RowResult], collection: CollectionStatistics, measure: str) -> dict[str, Any]:
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


def _pictures(
    rows: Sequence[RowResult], collection: CollectionStatistics, result: ExperimentResult, measure: str
) -> dict[str, Any]:
    """Return the learning curves and the swept values as small pictures with one vertical axis each."""
    order = {row.name: k for k, row in enumerate(collection.measures[measure].rows)}
    rows = sorted(rows, key=lambda row: order[row.name])
    lines = sum(min(MOST_SEEDS, len(row.trials)) for row in result.rows) or 1
    most = max(6, min(60, MOST_POINTS // lines))
    learned = {
        row.name: SmallCurve(
            [[(float(s), v) for s, v in t.curve if is_known(v)] for t in row.trials[:MOST_SEEDS] if t.curve]
        )
        for row in rows
        if any(t.curve for t in row.trials)
    }
    swept = {row.name: _swept(row) for row in rows if len(row.swept) > 1}
    return {
        "curves": _small(learned, "step", f"{measure} on dev", most),
        "swept": _small({k: v for k, v in swept.items() if v.lines[0]}, "value", f"{measure} on dev", most),
    }


def _swept(row: RowResult) -> SmallCurve:
    points = sorted((float(x), y) for x, y in row.swept if is_known(x) and is_known(y))
    return SmallCurve([points], max(points, key=lambda p: p[1], default=None), logarithmic=True)


def _small(curves: Mapping[str, SmallCurve], x_name: str, y_name: str, most: int) -> list[tuple[str, Markup]]:
    values = [y for curve in curves.values() for points in curve.lines for _, y in points]
    if not values:
        return []
    bounds = (min(values), max(values))
    return [(name, small_curve(curve, bounds, x_name, y_name, most)) for name, curve in curves.items()]


def _gains(result: ExperimentResult, collection: CollectionStatistics, measure: str) -> tuple[list[Gain], int]:
    """Return what changed by query for the best rows, and how many rows are left out."""
    judged, names = collection.values, [row.name for row in collection.measures[measure].rows]
    if judged is None or len(names) < 2:
        return [], 0
    baseline = collection.baseline or names[1]
    others = [name for name in names if name != baseline]
    others = others if collection.baseline else others[:1]
    texts = result.texts.get(collection.data, {})
    before = judged.values(baseline, measure).mean(1)
    gains = []
    for place, name in enumerate(others[:MOST_GAIN_ROWS]):
        after = judged.values(name, measure).mean(1)
        changes = [
            QueryChange(q, texts.get(q, ""), float(b), float(a)) for q, b, a in zip(judged.queries, before, after)
        ]
        gains.append(_gain(name, baseline, changes, measure, drawn=place == 0))
    return gains, max(0, len(others) - MOST_GAIN_ROWS)


def _gain(row: str, baseline: str, changes: Sequence[QueryChange], measure: str, drawn: bool) -> Gain:
    ordered = sorted(changes, key=lambda c: (-c.change, c.query_id))
    gained, lost = sum(c.change > 0 for c in ordered), sum(c.change < 0 for c in ordered)
    chart = None
    if drawn:
        bars = [(f"{c.query_id} {cut(c.text, 80)}".strip(), c.change) for c in ordered]
        chart = both_widths(lambda width: difference_bars(bars, measure, width))
    losses = ordered[len(ordered) - lost :][::-1]
    return Gain(
        row, baseline, chart, ordered[: min(gained, MOST_GAINS)], losses[:MOST_GAINS], len(ordered), gained, lost
    )
