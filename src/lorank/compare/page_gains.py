"""What changed query by query, for the page of an experiment."""

from collections.abc import Sequence
from dataclasses import dataclass

from lorank.compare.found_statistics import CollectionStatistics
from lorank.compare.results import ExperimentResult
from lorank.reporting.charts import difference_bars
from lorank.reporting.sections import Chart, QueryChange, both_widths, cut

MOST_GAIN_ROWS, MOST_GAINS = 12, 8


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


def prepare_gains(result: ExperimentResult, collection: CollectionStatistics, measure: str) -> tuple[list[Gain], int]:
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
        bars = [(f"{c.query_id} {cut(c.text, 80) if c.text != c.query_id else ''}".strip(), c.change) for c in ordered]
        chart = both_widths(lambda width: difference_bars(bars, measure, width))
    losses = ordered[len(ordered) - lost :][::-1]
    return Gain(
        row, baseline, chart, ordered[: min(gained, MOST_GAINS)], losses[:MOST_GAINS], len(ordered), gained, lost
    )
