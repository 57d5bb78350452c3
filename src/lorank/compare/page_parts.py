"""What each section of an experiment's page shows, prepared from results and statistics; templates only lay it out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from lorank.compare.findings import Finding, find_sentence
from lorank.compare.found_statistics import Bounds, CollectionStatistics, PairStatistics
from lorank.compare.page_gains import Gain, prepare_gains
from lorank.compare.page_pictures import Writer, draw_curves, draw_paretos, list_costs
from lorank.compare.results import ExperimentResult
from lorank.compare.summary import explain_power
from lorank.reporting.charts import Rung, difference_glyph, ladder_chart
from lorank.reporting.comparison_charts import (
    MOST_FIGURES,
    Difference,
    difference_matrix,
)
from lorank.reporting.run_folder import Example
from lorank.reporting.sections import WIDE, Chart, SideBySide, both_widths, side_by_side
from lorank.reporting.svg import text_width

MOST_PAIRS = 200


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
    matrix: Chart | None = None
    paretos: Sequence[Chart] = ()
    costs: Sequence[tuple[str, str, Writer]] = ()
    cost_rows: Sequence[tuple[str, Mapping[str, float]]] = ()
    curves: Sequence[tuple[str, Markup]] = ()
    most_seeds: int = 0
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
    gains, left_out = prepare_gains(result, collection, measure)
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
        paretos=draw_paretos(rows, collection, measure),
        **list_costs(rows, collection, measure),
        **draw_curves(rows, collection, result, measure),
        gains=gains,
        gains_left_out=left_out,
        examples=side_by_side([Example.model_validate(e) for e in result.examples.get(collection.data, ())]),
    )


def _ladder(collection: CollectionStatistics, measure: str) -> Chart:
    nothing = (float("nan"), float("nan"))
    rungs = [Rung(r.name, r.mean, *(r.interval or nothing)) for r in collection.measures[measure].rows]
    names_width = min(360, max(160, 30 + int(max(text_width(rung.name) for rung in rungs))))
    return both_widths(lambda w: ladder_chart(rungs, measure, w, collection.baseline, names_width))


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
    found = sorted(p.detectable for p in collection.measures[measure].pairs if p.detectable)
    return explain_power(found, measure, result.statistics) if found else ""


def _matrix(collection: CollectionStatistics, measure: str) -> Chart | None:
    of = collection.measures[measure]
    if len(of.rows) < 2:
        return None
    names, means = [row.name for row in of.rows], [row.mean for row in of.rows]
    tested = {(p.row, p.baseline): p.finding for p in of.pairs} | {(p.baseline, p.row): p.finding for p in of.pairs}

    def cell(i: int, j: int) -> Difference:
        return Difference(means[i] - means[j], tested.get((names[i], names[j]), "untested"))

    if len(names) > MOST_FIGURES:
        drawn = difference_matrix(names, cell, measure, 140)
        return Chart(drawn, Markup(""))
    return both_widths(lambda width: difference_matrix(names, cell, measure, 300 if width == WIDE else 110))
