"""The report's charts: pure functions from numbers to inline SVG, coloured by the page's CSS classes only.

Every chart takes its width in pixels, so a page may hold a wide and a narrow drawing of the same numbers with
text at one size, and carries a description for readers who do not see it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from lorank.reporting.numbers import decimal, interval, is_known, signed_decimal
from lorank.reporting.svg import (
    Scale,
    clip_middle,
    clip_text,
    drawing,
    element,
    line,
    linear_scale,
    polyline,
    text,
    tick_places,
    ticks,
    value_ticks,
)

NARROW = 480
"""Below this width in pixels, labels stand above what they name instead of beside it."""

MOST_BARS = 360
MOST_POINTS = 240
MOST_LAYERS, MOST_EVENTS = 48, 60

Point = tuple[float, float]


@dataclass(frozen=True)
class Rung:
    """One system on the ladder: its mean and the interval around it."""

    name: str
    value: float
    low: float
    high: float


def ladder_chart(
    rungs: Sequence[Rung], measure: str, width: int, accent: str | None = None, names_width: int = 220
) -> Markup:
    """Return a dot and an interval per rung, top to bottom in ladder order.

    Args:
        rungs: The systems; those whose value is not finite are left out.
        measure: The name of the measure, which stands below the axis.
        width: The width in pixels; below ``NARROW`` names stand above their rungs.
        accent: The name of the rung that stands out; None leaves all alike.
        names_width: The width in pixels that names take where they stand beside their rungs.
    """
    rungs = [r for r in rungs if is_known(r.value)]
    bounds = [b for r in rungs for b in (r.low, r.value, r.high) if is_known(b)]
    marks = value_ticks(bounds, 5 if width >= NARROW else 3)
    beside = width >= NARROW
    left, right, row, top = (names_width if beside else 16), 58, (38 if beside else 52), 8
    x = linear_scale((marks[0], marks[-1]), (left, width - right))
    bottom = top + row * len(rungs)
    parts = _vertical_grid(marks, x, top, bottom)
    for place, rung in enumerate(rungs):
        y = top + row * place + (row / 2 if beside else row - 16)
        tone = "accent" if rung.name == accent else "ink"
        name = element(
            "text",
            element("title", rung.name),
            clip_middle(rung.name, left - 24 if beside else width - 16),
            class_=f"label {tone}",
            text_anchor="end" if beside else "start",
            x=left - 16 if beside else left,
            y=y + 4.5 if beside else y - 15,
        )
        parts += [
            name,
            *_dot_and_interval(
                rung, x, y, tone, f"{rung.name}: {measure} {decimal(rung.value)} {interval((rung.low, rung.high))}"
            ),
        ]
        end = max(x(b) for b in (rung.value, rung.high) if is_known(b))
        parts.append(text(end + 10, y + 4.5, decimal(rung.value), f"value {tone}"))
    parts.append(text(width - right, bottom + 36, measure, "note", "end"))
    said = "; ".join(f"{r.name} {decimal(r.value)} {interval((r.low, r.high))}" for r in rungs)
    return drawing(width, bottom + 44, f"{measure} of each system with its interval: {said}.", parts)


def _vertical_grid(marks: list[float], x: Scale, top: float, bottom: float) -> list[Markup]:
    places = tick_places(marks)
    grid = [line(x(m), top, x(m), bottom, "grid") for m in marks]
    return grid + [text(x(m), bottom + 17, decimal(m, places), "tick", "middle") for m in marks]


def _dot_and_interval(rung: Rung, x: Scale, y: float, tone: str, tip: str) -> list[Markup]:
    shapes = []
    if is_known(rung.low) and is_known(rung.high):
        shapes = [
            line(x(rung.low), y, x(rung.high), y, f"whisker {tone}"),
            *(line(x(b), y - 4, x(b), y + 4, f"whisker {tone}") for b in (rung.low, rung.high)),
        ]
    dot = element("circle", cx=x(rung.value), cy=y, r=5, class_=f"dot {tone}")
    return [element("g", element("title", tip), *shapes, dot)]


def difference_glyph(difference: float, bounds: Point, reach: float, width: int = 132) -> Markup:
    """Return a small dot and interval on a scale from ``-reach`` to ``reach`` with zero marked.

    Args:
        difference: The difference of two systems; one that is not finite gives an empty scale.
        bounds: The lower and the upper end of its interval.
        reach: The end of the scale, above 0.
        width: The width in pixels.
    """
    x = linear_scale((-reach, reach), (6, width - 6))
    zero = line(x(0), 1, x(0), 21, "zero")
    label = f"difference {signed_decimal(difference)}, interval {interval(bounds, sign=True)}"
    if not is_known(difference):
        return drawing(width, 22, "no difference is defined", [zero])
    rung = Rung("", difference, *bounds)
    return drawing(width, 22, label, [zero, *_dot_and_interval(rung, x, 11, "ink", label)])


def difference_bars(differences: Sequence[tuple[str, float]], measure: str, width: int) -> Markup:
    """Return per-query differences as bars sorted from the largest gain to the largest loss.

    ``differences`` holds (query, difference). Above 360 queries neighbours in the sorted order share a bar,
    which then shows their mean; hovering tells how many.
    """
    ordered = sorted(((q, d) for q, d in differences if is_known(d)), key=lambda pair: (-pair[1], pair[0]))
    groups = even_groups(ordered, min(MOST_BARS, width - 60))
    means = [sum(d for _, d in group) / len(group) for group in groups]
    marks = ticks(min([*means, 0.0]), max([*means, 0.0]), 5)
    height, left, top, bottom = 250, 44, 10, 214
    y = linear_scale((marks[0], marks[-1]), (bottom, top))
    parts = _horizontal_grid(marks, y, left, width)
    step = (width - left) / max(1, len(groups))
    for place, (group, mean) in enumerate(zip(groups, means)):
        tone = "gain" if mean > 0 else "loss"
        tip = (
            f"{group[0][0]}: {signed_decimal(mean)}"
            if len(group) == 1
            else f"{len(group)} queries, mean {signed_decimal(mean)}, {signed_decimal(group[-1][1])} to "
            f"{signed_decimal(group[0][1])}"
        )
        bar = element(
            "rect",
            element("title", tip),
            x=left + step * place,
            y=min(y(0), y(mean)),
            width=max(step - (1 if step > 3 else 0), 0.3),
            height=max(abs(y(mean) - y(0)), 1.0),
            class_=f"bar {tone if mean else 'even'}",
        )
        parts.append(bar)
    parts += [
        line(left, y(0), width, y(0), "zero"),
        text(left, height - 8, "largest gain", "note"),
        text(width, height - 8, "largest loss", "note", "end"),
    ]
    gains, losses = (sum(sign * d > 0 for _, d in ordered) for sign in (1, -1))
    said = (
        f"Change of {measure} for {len(ordered)} queries, sorted: {gains} gain, {losses} lose, "
        f"{len(ordered) - gains - losses} stay."
    )
    return drawing(width, height, said, parts)


def even_groups(items: Sequence[Any], most: int) -> list[Sequence[Any]]:
    """Return at most ``most`` runs of neighbours of nearly equal length.

    >>> even_groups([1, 2, 3, 4, 5], 2)
    [[1, 2], [3, 4, 5]]
    """
    groups = min(most, len(items))
    return [items[len(items) * k // groups : len(items) * (k + 1) // groups] for k in range(groups)]


def _horizontal_grid(marks: list[float], y: Scale, left: float, width: float) -> list[Markup]:
    places = tick_places(marks)
    grid = [line(left, y(m), width, y(m), "grid") for m in marks]
    return grid + [text(left - 8, y(m) + 4, decimal(m, places), "tick", "end") for m in marks]


def curve_chart(
    points: Sequence[Point],
    width: int,
    *,
    height: int = 200,
    x_name: str,
    y_name: str,
    x_end: float | None = None,
    dots: bool = False,
    marked: Point | None = None,
    marked_as: str = "",
) -> Markup:
    """Return a line through points, of which one may be marked.

    The horizontal axis begins at 0 where that wastes little room. Above 240 points, neighbours are averaged.

    Args:
        points: The pairs (x, y) in rising order of x; those that are not finite are left out.
        width: The width in pixels.
        height: The height in pixels.
        x_name: The name of the horizontal axis.
        y_name: The name of the vertical axis.
        x_end: The end of the horizontal axis; None takes the last point.
        dots: True draws a dot at each point too; a single point is always drawn as one.
        marked: The point that is ringed; None marks none.
        marked_as: The label of the marked point.
    """
    points = [p for p in points if is_known(p[0]) and is_known(p[1])]
    drawn = [tuple(sum(axis) / len(group) for axis in zip(*group)) for group in even_groups(points, MOST_POINTS)]
    y_marks = value_ticks((p[1] for p in drawn), 4)
    last = x_end if x_end is not None else max((p[0] for p in points), default=1.0)
    first = min((p[0] for p in points), default=0.0)
    first = 0.0 if 0 <= first <= last / 4 else first
    x_marks = [m for m in ticks(first, last, 6 if width >= NARROW else 4) if first <= m <= last]
    left, right, top, bottom = 52, 14, 40, height - 40
    x, y = linear_scale((first, last), (left, width - right)), linear_scale((y_marks[0], y_marks[-1]), (bottom, top))
    places = tick_places(x_marks)
    parts = [
        *_horizontal_grid(y_marks, y, left, width - right),
        *(text(x(m), bottom + 17, decimal(m, places), "tick", "middle") for m in x_marks),
        text(0, 12, y_name, "note"),
        text(width - right, height - 6, x_name, "note", "end"),
        polyline(((x(a), y(b)) for a, b in drawn), "curve"),
    ]
    if dots or len(drawn) == 1:
        parts += [
            element(
                "circle",
                element("title", f"{x_name} {a:g}: {y_name} {decimal(b)}"),
                cx=x(a),
                cy=y(b),
                r=3.5,
                class_="dot ink",
            )
            for a, b in drawn
        ]
    if marked is not None and is_known(marked[0]) and is_known(marked[1]):
        parts += _marker(x(marked[0]), y(marked[1]), marked_as, width)
    ends = f", from {decimal(points[0][1])} to {decimal(points[-1][1])}" if points else ""
    return drawing(width, height, f"{y_name} by {x_name}{ends}{f'; {marked_as}' if marked_as else ''}.", parts)


def _marker(x: float, y: float, label: str, width: float) -> list[Markup]:
    room = 7.2 * len(label) / 2
    middle = min(max(x, 52 + room), width - 4 - room)
    return [
        element("circle", cx=x, cy=y, r=6, class_="dot accent"),
        text(middle, y - 12, label, "value accent", "middle"),
    ]


def rank_picture(layers: Sequence[tuple[str, int, Sequence[int]]]) -> Markup:
    """Return the ranks of adapted layers, (path, rank, [out, in]) each: blocks across, kinds of weight down.

    A cell holds its rank and is the darker the larger it is; its width does not depend on the page, so a
    deep model's picture scrolls inside its container.
    """
    places = [(*block_and_kind(path), path, rank, shape) for path, rank, shape in layers]
    blocks = sorted({p[0] for p in places}, key=lambda b: (b is not None, b or 0))
    kinds = list(dict.fromkeys(p[1] for p in places))
    largest = max((rank for _, rank, _ in layers), default=0) or 1
    side, left, top = 30, 12 + 6.8 * min(30, max(map(len, kinds), default=0)), 22
    parts = [
        text(left + side * (k + 0.5), 14, "–" if b is None else str(b), "tick", "middle") for k, b in enumerate(blocks)
    ]
    parts += [
        text(left - 10, top + side * (k + 0.5) + 4, clip_text(kind, left, 12), "tick", "end")
        for k, kind in enumerate(kinds)
    ]
    for block, kind, path, rank, shape in places:
        x, y = left + side * blocks.index(block), top + side * kinds.index(kind)
        share = rank / largest
        shaped = f", weight {' × '.join(map(str, shape))}" if shape else ""
        cell = element(
            "rect",
            x=x + 1,
            y=y + 1,
            width=side - 2,
            height=side - 2,
            rx=2,
            class_="cell",
            fill_opacity=round(0.06 + 0.3 * share, 3),
        )
        label = text(x + side / 2, y + side / 2 + 4, str(rank), "cell-rank" if rank else "cell-rank none", "middle")
        parts.append(element("g", element("title", f"{path}: rank {rank}{shaped}"), cell, label))
    ranks = [rank for _, rank, _ in layers]
    said = f"Ranks of {len(ranks)} adapted layers, from {min(ranks, default=0)} to {max(ranks, default=0)}."
    return drawing(left + side * len(blocks) + 4, top + side * len(kinds) + 4, said, parts)


def rank_history(events: Sequence[tuple[int, Mapping[str, int]]], width: int) -> Markup:
    """Return how ranks moved, (step, ranks by path) each: layers down, events across, darker for higher ranks.

    The last column also holds the rank in figures. Of more than ``MOST_LAYERS`` layers each kind of weight is one row,
    with the mean of its layers. Of more than ``MOST_EVENTS`` events some are left out, never the first or the last.
    """
    shown = [events[k] for k in even_places(len(events), MOST_EVENTS if width >= NARROW else MOST_EVENTS // 3)]
    rows = _history_rows([ranks for _, ranks in shown])
    largest = max((value for _, values in rows for value in values), default=0) or 1
    size = 12 if width >= NARROW else 11
    left = min(7 * max((len(_row_label(name, width, size)) for name, _ in rows), default=0) + 12, 0.46 * width)
    right, top, row = 34, 22, 15
    cell = (width - left - right) / max(1, len(shown))
    parts = []
    for k in even_places(len(shown), 9 if width >= NARROW else 3):
        anchor = "start" if k == 0 else "end" if k == len(shown) - 1 else "middle"
        x = left + cell * (k + {"start": 0, "middle": 0.5, "end": 1}[anchor])
        parts.append(text(x, 14, f"step {shown[k][0]}" if k == 0 else str(shown[k][0]), "tick", anchor))
    for place, (name, values) in enumerate(rows):
        y = top + row * place
        parts.append(
            element(
                "text",
                element("title", name),
                _row_label(name, left - 8, size),
                class_="tick",
                text_anchor="end",
                x=left - 8,
                y=y + 11,
            )
        )
        for k, value in enumerate(values):
            tip = element("title", f"{name}, step {shown[k][0]}: rank {_rank_figure(value)}")
            parts.append(
                element(
                    "rect",
                    tip,
                    x=left + cell * k,
                    y=y + 1,
                    width=max(cell - 1, 0.6),
                    height=row - 2,
                    class_="cell",
                    fill_opacity=round(0.04 + 0.86 * value / largest, 3),
                )
            )
        parts.append(text(width - right + 6, y + 11, _rank_figure(values[-1]), "tick"))
    totals = [sum(ranks.values()) for _, ranks in shown]
    layers = len(shown[0][1]) if shown else 0
    said = f"Ranks of {layers} layers, {len(shown)} columns"
    said += f"; their sum goes from {totals[0]} to {totals[-1]}." if totals else "."
    return drawing(width, top + row * len(rows) + 4, said, parts)


def _history_rows(states: Sequence[Mapping[str, int]]) -> list[tuple[str, list[float]]]:
    paths = list(states[-1]) if states else []
    if len(paths) <= MOST_LAYERS:
        return [(path, [float(ranks.get(path, 0)) for ranks in states]) for path in paths]
    kinds: dict[str, list[str]] = {}
    for path in paths:
        kinds.setdefault(block_and_kind(path)[1], []).append(path)
    return [
        (f"{kind} (mean)", [sum(ranks.get(path, 0) for path in own) / len(own) for ranks in states])
        for kind, own in kinds.items()
    ]


def _row_label(path: str, width: float, size: float) -> str:
    block, kind = block_and_kind(path)
    number = "" if block is None else f"{block} "
    return number + clip_start(kind, width - 0.58 * size * len(number), size)


def _rank_figure(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:.1f}"


def even_places(count: int, most: int) -> list[int]:
    """Return at most ``most`` places of ``count``, evenly spread, the first and the last among them.

    >>> even_places(3, 5), even_places(10, 4)
    ([0, 1, 2], [0, 3, 6, 9])
    """
    if count <= most:
        return list(range(count))
    return sorted({round(k * (count - 1) / (most - 1)) for k in range(most)})


def clip_start(content: str, width: float, size: float = 13) -> str:
    """Return ``content`` cut at its start to about ``width`` pixels: paths differ at their ends.

    >>> clip_start("encoder.layer.3.attention.self.query", 120, 12)
    '…ntion.self.query'
    """
    fits = int(width / (0.58 * size))
    return content if len(content) <= fits else "…" + content[len(content) - max(0, fits - 1) :]


def block_and_kind(path: str) -> tuple[int | None, str]:
    """Return the block's number and the name of the weight within a block.

    >>> block_and_kind("encoder.layer.3.attention.self.query")
    (3, 'attention.self.query')
    >>> block_and_kind("pooler.dense")
    (None, 'pooler.dense')
    """
    found = re.search(r"(?:^|\.)(\d+)\.(.+)$", path)
    return (int(found[1]), found[2]) if found else (None, path)
