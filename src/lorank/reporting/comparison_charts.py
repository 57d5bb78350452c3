"""Charts of many systems: quality against cost, a matrix of differences, and small curves in a grid."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lorank.reporting.charts import NARROW, Point, even_groups
from lorank.reporting.numbers import THIN_SPACE, count, decimal, duration, is_known, signed_decimal
from lorank.reporting.svg import (
    Scale,
    clip_middle,
    drawing,
    element,
    line,
    linear_scale,
    polyline,
    text,
    text_width,
    tick_places,
    value_ticks,
)

MOST_FIGURES = 14
"""A matrix of more systems has colours without figures."""
MOST_NAMED = 16
"""Of more systems in a picture of cost, those off the frontier have no names beside their points."""
_SHADES = 5


@dataclass(frozen=True)
class Priced:
    """A system with what it costs and what it reaches."""

    name: str
    cost: float
    value: float
    low: float = math.nan
    high: float = math.nan


def frontier(points: Sequence[Priced]) -> list[Priced]:
    """Return the points that no other one beats at the same or a lower cost, cheapest first.

    >>> [p.name for p in frontier([Priced("a", 1, 0.5), Priced("b", 2, 0.4), Priced("c", 3, 0.6)])]
    ['a', 'c']
    """
    best, kept = -math.inf, []
    for point in sorted(points, key=lambda p: (p.cost, -p.value)):
        if point.value > best:
            kept.append(point)
            best = point.value
    return kept


def log_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return powers of ten (and 2 and 5 times them where there is room) inside the range, for a logarithmic axis.

    >>> log_ticks(3, 4000)
    [10.0, 100.0, 1000.0]
    >>> log_ticks(2, 30)
    [2.0, 5.0, 10.0, 20.0]
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for steps in ((1, 2, 5), (1, 3), (1,)):
        found = [s * 10.0**k for k in range(first, last + 1) for s in steps]
        inside = [t for t in found if low * (1 - 1e-9) <= t <= high * (1 + 1e-9)]
        if len(inside) <= most:
            return inside
    return inside[:: math.ceil(len(inside) / most)]


def pareto_chart(
    points: Sequence[Priced], measure: str, cost: str, width: int, write: Callable[[float], str], accent: str | None
) -> Markup:
    """Return quality against cost, the frontier joined and named; the axis of the cost is logarithmic.

    Args:
        points: The systems; those that are not finite are left out.
        measure: The name of the measure.
        cost: The name of the cost.
        width: The width in pixels.
        write: Writes a cost for the axis and the tips.
        accent: The name of the system that is drawn apart, such as the baseline; None leaves all alike.
    """
    points = [p for p in points if is_known(p.cost) and is_known(p.value)]
    height, left, right, top, bottom = 330, 52, 18, 36, 276
    costs = [p.cost for p in points] or [0.0, 1.0]
    y_marks = value_ticks((p.value for p in points), 5)
    y = linear_scale((y_marks[0], y_marks[-1]), (bottom, top))
    x, x_marks = _cost_axis(costs, (left + 30, width - right - 30), 6 if width >= NARROW else 3, write is duration)
    places = tick_places(y_marks)
    parts = [line(left, y(m), width - right, y(m), "grid") for m in y_marks]
    parts += [text(left - 8, y(m) + 4, decimal(m, places), "tick", "end") for m in y_marks]
    mark = _write_duration if write is duration else _write_count if write is count else write
    parts += [text(x(m), bottom + 18, mark(m), "tick", "middle") for m in x_marks]
    parts += [text(0, 14, measure, "note"), text(width - right, height - 10, cost, "note", "end")]
    best = frontier(points)
    parts.append(polyline(((x(p.cost), y(p.value)) for p in best), "frontier"))
    on = {p.name for p in best}
    for p in points:
        tip = element("title", f"{p.name}: {measure} {decimal(p.value)}, {cost.lower()} {write(p.cost)}")
        tone = "accent" if p.name == accent else "ink" if p.name in on else "off"
        parts.append(element("g", tip, _mark(x(p.cost), y(p.value), tone)))
    beaten = sorted((p for p in points if p.name not in on), key=lambda p: p.name != accent)
    named = [*best, *(p for p in beaten if p.name == accent or len(points) <= MOST_NAMED)]
    parts += _labels([(p.name, x(p.cost), y(p.value)) for p in named], [(x(p.cost), y(p.value)) for p in points], width)
    said = "; ".join(f"{p.name} {decimal(p.value)} at {write(p.cost)}" for p in best)
    return drawing(width, height, f"{measure} against {cost.lower()}. On the frontier: {said}.", parts)


DURATIONS = (1e-3, 1e-2, 0.1, 1, 3, 10, 30, 60, 180, 600, 1800, 3600, 10800, 36000, 86400, 259200, 864000)
"""Seconds that read well on a logarithmic axis of time."""


def _write_duration(seconds: float) -> str:
    """Return a mark of the axis of time in one unit."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= size:
            return f"{seconds / size:.3g}{THIN_SPACE}{unit}"
    return f"{1000 * seconds:.3g}{THIN_SPACE}ms" if seconds else "0"


def _write_count(number: float) -> str:
    """Return a mark of the axis of a count, in thousands, millions or more.

    >>> [_write_count(n).replace(THIN_SPACE, " ") for n in (0, 500, 30_000, 2e6, 1e9)]
    ['0', '500', '30 k', '2 M', '1 G']
    """
    for unit, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g}{THIN_SPACE}{unit}"
    return f"{number:.3g}"


def _cost_axis(costs: Sequence[float], extent: Point, about: int, timed: bool) -> tuple[Scale, list[float]]:
    """Return the scale of the costs and its ticks; free systems stand at the left end, which is 0."""
    paid = [c for c in costs if c > 0]
    if not paid:
        return linear_scale((0.0, 0.0), extent), [0.0]
    low, high, free = min(paid), max(paid), min(costs) <= 0
    start = low / (3 if free else 1.25)
    inner = linear_scale((math.log(start), math.log(1.25 * high)), extent)
    marks = [t for t in DURATIONS if low / 1.25 <= t <= high * 1.25] if timed else log_ticks(low, high, about)
    if len(marks) < 2:
        marks = [low, high] if high > 1.3 * low else [low]
    marks = marks[:: math.ceil(len(marks) / about)]
    return (lambda cost: inner(math.log(max(cost, start)))), ([0.0] if free else []) + marks


def _mark(x: float, y: float, tone: str) -> Markup:
    if tone == "accent":
        return element("rect", x=x - 5, y=y - 5, width=10, height=10, class_="dot accent")
    return element("circle", cx=x, cy=y, r=5 if tone == "ink" else 4, class_=f"dot {tone}")


def _labels(named: Sequence[tuple[str, float, float]], points: Sequence[Point], width: int) -> list[Markup]:
    """Return the names beside their points, each where it covers no other name and no point; else it is left out."""
    taken: list[tuple[float, float, float, float]] = [(px - 6, py - 6, px + 6, py + 6) for px, py in points]
    parts = []
    for name, px, py in named:
        shown = clip_middle(name, 180 if width >= NARROW else 120)
        room = text_width(shown)
        for x0, y0 in ((px - room / 2, py - 11), (px - 10 - room, py + 4), (px + 10, py + 4), (px - room / 2, py + 21)):
            box = (x0, y0 - 11, x0 + room, y0 + 3)
            if box[0] < 48 or box[2] > width - 2 or box[1] < 20 or box[3] > 276:
                continue
            if all(box[2] < b[0] or b[2] < box[0] or box[3] < b[1] or b[3] < box[1] for b in taken):
                taken.append(box)
                parts.append(element("text", element("title", name), shown, x=x0, y=y0, class_="label halo"))
                break
    return parts


@dataclass(frozen=True)
class Difference:
    """The difference of a row's system from a column's; ``finding`` is better, worse, tie or untested."""

    value: float
    finding: str = "untested"


def difference_matrix(
    names: Sequence[str], cells: Callable[[int, int], Difference | None], measure: str, room: int
) -> Markup:
    """Return a matrix of differences, row minus column, darker the larger; findings are outlined.

    The size does not depend on the page, so a large matrix scrolls inside its container.

    Args:
        names: The systems, in the order of rows and columns.
        cells: The difference for a row and a column, by place; None leaves the cell empty.
        measure: The name of the measure.
        room: The pixels that the names may take.
    """
    figures = len(names) <= MOST_FIGURES
    wide, tall = (52, 28) if figures else (15, 15)
    size = 12
    left = min(room, 40 + int(max((text_width(name, size) for name in names), default=0)))
    found = [
        (i, j, c) for i in range(len(names)) for j in range(len(names)) if i != j and (c := cells(i, j)) is not None
    ]
    reach = max((abs(c.value) for _, _, c in found), default=0.0) or 1.0
    top = 24
    step = 1 if figures else 5
    parts = [
        text(left + wide * (j + 0.5), 15, str(j + 1), "tick", "middle")
        for j in range(len(names))
        if (j + 1) % step == 0 or not j
    ]
    for i, name in enumerate(names):
        label = clip_middle(f"{i + 1} {name}", left - 10, size)
        y = top + tall * (i + 0.5) + 4
        parts.append(element("text", element("title", name), label, x=left - 8, y=y, class_="tick", text_anchor="end"))
    place = {(i, j): (left + wide * j + 1, top + tall * i + 1) for i, j, _ in found}
    if figures:
        parts += [_figure(cell, place[i, j], (wide - 2, tall - 2), reach, names[i], names[j]) for i, j, cell in found]
    else:
        squares: dict[str, list[tuple[int, int]]] = {}
        for i, j, cell in found:
            if j < i:
                squares.setdefault(_tone(cell, reach), []).append(place[i, j])
        parts += [_squares(tone, corners, wide - 2) for tone, corners in squares.items()]
    differing = sum(c.finding in ("better", "worse") for _, _, c in found) // 2
    said = f"Differences of {measure} of {len(names)} systems, row minus column; {differing} pairs differ when tested."
    return drawing(left + wide * len(names) + 2, top + tall * len(names) + 2, said, parts)


def _tone(cell: Difference, reach: float) -> str:
    """Return the CSS classes of a cell: its sign, its size in ``_SHADES`` steps, and whether it is a finding."""
    shade = math.ceil(_SHADES * abs(cell.value) / reach)
    tone = "even" if not shade else f"{'above' if cell.value > 0 else 'below'} s{shade}"
    return f"{tone} sure" if cell.finding in ("better", "worse") else tone


def _figure(cell: Difference, corner: Point, size: Point, reach: float, row: str, column: str) -> Markup:
    """Return a cell with its figure."""
    (x, y), (width, height) = corner, size
    tip = element("title", f"{row} minus {column}: {signed_decimal(cell.value)}, {cell.finding}")
    square = element("rect", x=x, y=y, width=width, height=height, class_=_tone(cell, reach))
    return element("g", tip, square, text(x + width / 2, y + height / 2 + 4, _short(cell.value), "figure", "middle"))


def _squares(tone: str, corners: Sequence[tuple[int, int]], side: int) -> Markup:
    """Return all cells of one tone as one path, which keeps a page of large matrices small."""
    return element("path", d="".join(f"M{x} {y}h{side}v{side}h-{side}z" for x, y in corners), class_=tone)


def _short(value: float) -> str:
    written = signed_decimal(value)
    return written.replace("0.", ".", 1) if abs(value) < 1 else written


@dataclass(frozen=True)
class SmallCurve:
    """The lines of one small picture, each a list of points; ``marked`` is drawn apart, ``logarithmic`` is of x."""

    lines: Sequence[Sequence[Point]]
    marked: Point | None = None
    logarithmic: bool = False
    dots: bool = False


def small_curve(
    curve: SmallCurve, y_range: Point, x_name: str, y_name: str, most_points: int = 60, width: int = 250
) -> Markup:
    """Return a small picture of lines; pictures that share ``y_range`` can be compared by eye.

    Args:
        curve: The lines.
        y_range: The lowest and the highest value of the vertical axis.
        x_name: The name of the horizontal axis.
        y_name: The name of the vertical axis, for readers who do not see the picture.
        most_points: The most points of a line; neighbours are averaged above it.
        width: The width in pixels.
    """
    height, right, top, bottom = 132, 10, 10, 94
    marks = value_ticks(y_range, 3)
    places = tick_places(marks)
    left = max(44, 10 + math.ceil(max(text_width(decimal(m, places), 12) for m in marks)))
    y = linear_scale((marks[0], marks[-1]), (bottom, top))
    spread = [a for points in curve.lines for a, _ in points] or [0.0, 1.0]
    log = curve.logarithmic and min(spread) > 0 and max(spread) > min(spread)
    x_low, x_high = min(spread), max(spread)
    if not log and 0 <= x_low <= x_high / 4:
        x_low = 0.0
    x = _scale((x_low, x_high), (left + 6, width - right - 6), log)
    parts = [line(left, y(m), width - right, y(m), "grid") for m in marks]
    parts += [text(left - 6, y(m) + 4, decimal(m, places), "tick", "end") for m in marks]
    ends = [x_low, x_high] if x_high > x_low else [x_low]
    anchors = ["start", "end"] if len(ends) > 1 else ["middle"]
    parts += [text(x(e), bottom + 16, f"{e:.3g}", "tick", a) for e, a in zip(ends, anchors)]
    parts.append(text(width / 2 + 17, height - 6, x_name, "note", "middle"))
    for points in curve.lines:
        drawn = _averaged(points, most_points)
        if len(drawn) > 1:
            parts.append(polyline(((x(a), y(b)) for a, b in drawn), "curve thin"))
        if curve.dots or len(drawn) == 1:
            parts += [element("circle", cx=x(a), cy=y(b), r=2.5, class_="dot ink") for a, b in drawn]
    if curve.marked is not None and is_known(curve.marked[0]):
        parts.append(element("circle", cx=x(curve.marked[0]), cy=y(curve.marked[1]), r=5, class_="dot accent"))
    best = max((b for points in curve.lines for _, b in points), default=math.nan)
    return drawing(width, height, f"{y_name} by {x_name}, {len(curve.lines)} lines, at most {decimal(best)}.", parts)


def _scale(domain: Point, extent: Point, logarithmic: bool) -> Scale:
    if not logarithmic:
        return linear_scale(domain, extent)
    inner = linear_scale((math.log(domain[0]), math.log(domain[1])), extent)
    return lambda value: inner(math.log(value))


def _averaged(points: Sequence[Point], most: int) -> list[Point]:
    return [
        (sum(a for a, _ in group) / len(group), sum(b for _, b in group) / len(group))
        for group in even_groups(points, most)
    ]
