"""What each section of the report shows, prepared from a run folder; the templates only lay it out."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from markupsafe import Markup

from lorank.ranking.metrics.evaluation import Comparison, Evaluation, SystemResult
from lorank.reporting.charts import (
    Rung,
    curve_chart,
    difference_bars,
    difference_glyph,
    ladder_chart,
    rank_history,
    rank_picture,
)
from lorank.reporting.numbers import count, duration, is_known, size
from lorank.reporting.run_folder import (
    AdapterCard,
    BudgetEvent,
    DebiasCard,
    Example,
    ListedDocument,
    Mix,
    RunCard,
    ShownList,
    TrainingStep,
)
from lorank.reporting.verdict import Verdict, comparisons_of, outcome

WIDE, PHONE = 880, 342
MOST_EXAMPLES, MOST_DOCUMENTS, MOST_CHANGES, MOST_COMPARISONS = 12, 10, 10, 200
TITLE_LETTERS, SNIPPET_LETTERS, CARD_LETTERS = 200, 420, 6000

COSTS: dict[str, tuple[str, Callable[[float | None], str]]] = {
    "train_seconds": ("Training", duration),
    "score_seconds": ("Scoring", duration),
    "trained_parameters": ("Trained parameters", count),
    "bytes": ("Size", size),
}
"""Heading and format of each known cost; others are headed by their own key."""


@dataclass(frozen=True)
class Chart:
    """The same numbers drawn for a wide page and for a phone."""

    wide: Markup
    phone: Markup


def both_widths(draw: Callable[[int], Markup]) -> Chart:
    """Return ``draw`` at the two widths of the page."""
    return Chart(draw(WIDE), draw(PHONE))


@dataclass(frozen=True)
class Ladder:
    """Every system with its quality and what it cost."""

    chart: Chart
    measures: list[str]
    rows: list[tuple[str, SystemResult, float | None]]
    costs: list[tuple[str, str, Callable[[float | None], str]]]
    has_ceiling: bool
    better: set[tuple[str, str]]
    """The systems and measures that are better than the one that the verdict compares with, by the corrected test."""


def ladder(evaluation: Evaluation, verdict: Verdict, run: RunCard | None = None) -> Ladder:
    """Return the ladder in the evaluation's order; the rung the verdict is about carries the accent.

    What a system cost comes from the evaluation, and for the tuned one also from the record of its run.

    Args:
        evaluation: The judged systems.
        verdict: What it says, and of whom.
        run: The record of the run; None where there is none.
    """
    evaluation = _with_costs_of_run(evaluation, run)
    first = verdict.measure
    rungs = [Rung(name, s.mean[first], *s.interval[first]) for name, s in evaluation.systems.items()]
    keys = list(dict.fromkeys([*COSTS, *(k for s in evaluation.systems.values() for k in s.cost)]))
    shown = [k for k in keys if any(is_known(s.cost.get(k)) for s in evaluation.systems.values())]
    costs = [(k, *COSTS.get(k, (k.replace("_", " ").capitalize(), _bare))) for k in shown]
    rows = [(name, s, evaluation.ceiling.get(name)) for name, s in evaluation.systems.items()]
    chart = both_widths(lambda width: ladder_chart(rungs, first, width, accent=verdict.system))
    better = {
        (pair.baseline, measure)
        for measure in evaluation.measures
        for pair in comparisons_of(evaluation, verdict.baseline or "", measure)
        if outcome(pair) == "worse"
    }
    return Ladder(chart, evaluation.measures, rows, costs, bool(evaluation.ceiling), better)


def _with_costs_of_run(evaluation: Evaluation, run: RunCard | None) -> Evaluation:
    if run is None:
        return evaluation
    adapter = run.adapter or AdapterCard()
    known: dict[str, float | None] = {
        "train_seconds": None if run.outcome is None else run.outcome.train_seconds,
        "trained_parameters": adapter.trained_parameters,
        "bytes": adapter.bytes,
    }
    costs = {key: float(value) for key, value in known.items() if is_known(value)}
    systems = {
        name: replace(system, cost={**costs, **system.cost}) if system.role == "tuned" else system
        for name, system in evaluation.systems.items()
    }
    return replace(evaluation, systems=systems)


def _bare(value: float | None) -> str:
    return f"{value:,.4g}" if is_known(value) else "–"


@dataclass(frozen=True)
class ComparisonRow:
    """One paired comparison, its outcome word and its small picture."""

    pair: Comparison
    outcome: str
    glyph: Markup


@dataclass(frozen=True)
class Comparisons:
    """The comparisons about the verdict's system on the first measure, and all others; ``left_out`` are not shown."""

    main: list[ComparisonRow]
    others: list[ComparisonRow]
    left_out: int


def comparisons(evaluation: Evaluation, verdict: Verdict) -> Comparisons:
    """Return the comparisons that the verdict rests on first, then the rest."""
    main = comparisons_of(evaluation, verdict.system, verdict.measure)
    used = {frozenset((c.system, c.baseline)) for c in main}
    rest = [
        c
        for c in evaluation.comparisons
        if c.measure != verdict.measure or frozenset((c.system, c.baseline)) not in used
    ]
    bounds = [abs(b) for c in evaluation.comparisons for b in (*c.interval, c.difference) if is_known(b)]
    reach = max(bounds, default=0) or 1.0
    rows = [ComparisonRow(c, outcome(c), difference_glyph(c.difference, c.interval, reach)) for c in [*main, *rest]]
    shown = rows[: max(len(main), MOST_COMPARISONS)]
    return Comparisons(shown[: len(main)], shown[len(main) :], len(rows) - len(shown))


@dataclass(frozen=True)
class QueryChange:
    """One query's measure before and after; ``text`` is empty where the run folder does not hold it."""

    query_id: str
    text: str
    before: float
    after: float

    @property
    def change(self) -> float:
        """After minus before."""
        return self.after - self.before


@dataclass(frozen=True)
class Changes:
    """Per-query gains and losses of the verdict's system over its baseline."""

    chart: Chart
    gains: list[QueryChange]
    losses: list[QueryChange]
    queries: int
    gained: int
    lost: int
    grouped: bool


def changes(evaluation: Evaluation, verdict: Verdict, texts: Mapping[str, str]) -> Changes | None:
    """Return what changed query by query; None where there is no baseline or no query of both.

    Args:
        evaluation: The judged systems.
        verdict: What it says, and of whom.
        texts: The texts of the queries; one that is missing leaves the query's id alone.
    """
    if verdict.baseline is None:
        return None
    before = evaluation.systems[verdict.baseline].values.get(verdict.measure, {})
    after = evaluation.systems[verdict.system].values.get(verdict.measure, {})
    shared = [
        QueryChange(q, texts.get(q, ""), before[q], after[q])
        for q in after
        if q in before and is_known(before[q]) and is_known(after[q])
    ]
    if not shared:
        return None
    rows = sorted(shared, key=lambda row: (-row.change, row.query_id))
    bars = [(f"{row.query_id} {cut(row.text, 80)}".strip(), row.change) for row in rows]
    gained, lost = sum(row.change > 0 for row in rows), sum(row.change < 0 for row in rows)
    chart = both_widths(lambda width: difference_bars(bars, verdict.measure, width))
    losses = rows[len(rows) - lost :][::-1]
    return Changes(
        chart, rows[: min(gained, MOST_CHANGES)], losses[:MOST_CHANGES], len(rows), gained, lost, len(rows) > 360
    )


@dataclass(frozen=True)
class Learning:
    """The training loss, and the measure on dev with its best step."""

    loss: Chart | None
    dev: Chart | None
    dev_key: str
    dev_name: str
    dev_rows: list[TrainingStep]
    best: TrainingStep | None
    steps: int
    seconds: float | None


def learning(training: list[TrainingStep], dev_name: str = "") -> Learning | None:
    """Return the learning curves, the value on dev under its full name; None where nothing was trained."""
    losses = [(float(t.step), loss) for t in training if is_known(loss := t.loss)]
    evaluated = [(t, t.dev) for t in training if t.dev]
    key = next(iter(evaluated[0][1])) if evaluated else ""
    name = dev_name or f"dev {key}"
    judged = [(t, value) for t, dev in evaluated if is_known(value := dev.get(key))]
    if not losses and not judged:
        return None
    best, best_value = max(judged, key=lambda pair: pair[1], default=(None, math.nan))
    dev_points = [(float(t.step), value) for t, value in judged]
    marked = (float(best.step), best_value) if best else None
    steps = max(t.step for t in training)
    loss_chart = both_widths(lambda w: curve_chart(losses, w, x_name="step", y_name="training loss", x_end=steps))
    dev_chart = both_widths(
        lambda w: curve_chart(
            dev_points,
            w,
            x_name="step",
            y_name=name,
            x_end=steps,
            dots=True,
            marked=marked,
            marked_as=f"best, step {best.step}" if best else "",
        )
    )
    spent = max((seconds for t in training if is_known(seconds := t.seconds)), default=None)
    lines = [t for t, _ in judged]
    return Learning(loss_chart if losses else None, dev_chart if best else None, key, name, lines, best, steps, spent)


@dataclass(frozen=True)
class Debiased:
    """The debiaser and its curve by position."""

    name: str
    what: str
    chart: Chart
    values: list[float]


def debiased(card: DebiasCard | None) -> Debiased | None:
    """Return the curve of a debiaser; None where there is none."""
    if card is None or not card.curve:
        return None
    points = [(float(k), value) for k, value in enumerate(card.curve, start=1)]
    x_name = "bucket of ranks at the first stage: 1, 2, 3-4, 5-8, ..." if card.what == "selection" else "position"
    chart = both_widths(lambda w: curve_chart(points, w, x_name=x_name, y_name=card.what, dots=True))
    return Debiased(card.name, card.what, chart, card.curve)


@dataclass(frozen=True)
class Trained:
    """The adapter's counts and, where layers are listed, the picture of their ranks."""

    card: AdapterCard
    share: float | None
    picture: Markup | None


def trained_part(run: RunCard) -> Trained | None:
    """Return what was trained; None where the run has no adapter."""
    if run.adapter is None:
        return None
    card = run.adapter
    share = None
    if card.trained_parameters is not None and card.total_parameters:
        share = card.trained_parameters / card.total_parameters
    layers = [(layer.path, layer.rank, layer.shape) for layer in card.layers]
    return Trained(card, share, rank_picture(layers) if layers else None)


@dataclass(frozen=True)
class RankHistory:
    """How a budget moved ranks: the picture, the first and last sums, the layers that ended highest and at 0."""

    chart: Chart
    events: int
    first_total: int
    last_total: int
    highest: list[tuple[str, int]]
    layers: int
    empty: int
    last_step: int


def rank_budget(budget: list[BudgetEvent]) -> RankHistory | None:
    """Return the ranks over the run; None where no budget moved any."""
    if not budget or not budget[-1].ranks:
        return None
    last = budget[-1].ranks
    history = [(event.step, event.ranks) for event in budget]
    highest = sorted(last.items(), key=lambda item: -item[1])[:3]
    return RankHistory(
        both_widths(lambda width: rank_history(history, width)),
        len(budget) - 1,
        sum(budget[0].ranks.values()),
        sum(last.values()),
        highest,
        len(last),
        sum(rank == 0 for rank in last.values()),
        budget[-1].step,
    )


@dataclass(frozen=True)
class Mixing:
    """The dev curve over the weight of the learned score, and the weight that was chosen (infinite: it alone)."""

    chart: Chart
    weight: float
    value: float
    first_stage: str
    first_stage_value: float | None
    learned_value: float | None


def mixing(mix: Mix | None, dev_name: str = "") -> Mixing | None:
    """Return the curve by weight, the value on dev under its full name; None where no weight was tried.

    The curve's weights are relative: 1 gives both scores equal say. The chosen one is the smallest that is
    best on dev, as the mix is defined, unless the run says that it left the first stage out.
    """
    if mix is None:
        return None
    curve = sorted((p for p in mix.dev_curve if is_known(p[1])), key=lambda p: (-p[1], p[0]))
    points = sorted(p for p in curve if is_known(p[0]))
    if not points:
        return None
    weight, value = next((p for p in curve if mix.first_stage_weight == 0 and not is_known(p[0])), curve[0])
    marked = (weight, value) if is_known(weight) else None
    chart = both_widths(
        lambda w: curve_chart(
            points,
            w,
            x_name="weight of the learned score",
            y_name=dev_name or "dev nDCG@10",
            dots=True,
            marked=marked,
            marked_as=f"chosen, {weight:g}" if marked else "",
        )
    )
    values = dict(curve)
    return Mixing(
        chart, weight, value, str(mix.first_stage or "the first stage"), values.get(0.0), values.get(math.inf)
    )


@dataclass(frozen=True)
class ShownDocument:
    """A document of a list with its place, and where it stood in the list before (None: not among those shown)."""

    place: int
    document: ListedDocument
    was: int | None


@dataclass(frozen=True)
class SideBySide:
    """One query answered before and after."""

    example: Example
    before: list[ShownDocument]
    after: list[ShownDocument]


def side_by_side(examples: list[Example]) -> list[SideBySide]:
    """Return the first examples, with lists and texts cut to what a reader compares at a glance."""
    return [SideBySide(e, _shown(e.before, None), _shown(e.after, e.before)) for e in examples[:MOST_EXAMPLES]]


def _shown(answered: ShownList, earlier: ShownList | None) -> list[ShownDocument]:
    places = {d.id: k for k, d in enumerate(earlier.documents, start=1)} if earlier else {}
    return [
        ShownDocument(
            k,
            d.model_copy(update={"title": cut(d.title, TITLE_LETTERS), "snippet": cut(d.snippet, SNIPPET_LETTERS)}),
            places.get(d.id),
        )
        for k, d in enumerate(answered.documents[:MOST_DOCUMENTS], start=1)
    ]


def cut(content: str, letters: int) -> str:
    """Return at most ``letters`` letters of ``content``, with an ellipsis where some were cut.

    >>> cut("abcdef", 4)
    'abc…'
    """
    return content if len(content) <= letters else content[: letters - 1].rstrip() + "…"


def flatten_settings(settings: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return nested settings as rows of (dotted key, value); of many numbers, only how many there are.

    >>> flatten_settings({"loss": {"name": "lambda", "k": 10}, "targets": ["query", "value"], "means": [0.5] * 46})
    [('loss.name', 'lambda'), ('loss.k', '10'), ('targets', 'query, value'), ('means', '46 numbers')]
    """
    rows: list[tuple[str, str]] = []
    for key, value in settings.items():
        if isinstance(value, dict):
            rows += flatten_settings(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            numbers = len(value) > 8 and all(type(each) in (int, float) for each in value)
            said = f"{len(value)} numbers" if numbers else cut(", ".join(map(str, value)), 600)
            rows.append((f"{prefix}{key}", said))
        else:
            rows.append((f"{prefix}{key}", "–" if value is None else cut(str(value), 600)))
    return rows
