"""The few SVG primitives that the charts are drawn with; every value is escaped, colours are CSS classes."""

import math
import unicodedata
from collections.abc import Callable, Iterable

from markupsafe import Markup, escape

Scale = Callable[[float], float]
Value = str | int | float


def element(name: str, *children: str, **attributes: Value) -> Markup:
    """Return one element; ``class_`` writes ``class``, other underscores become hyphens, text is escaped.

    >>> element("text", "a<b", x=1.2345, class_="label")
    Markup('<text x="1.23" class="label">a&lt;b</text>')
    """
    written = "".join(f' {_attribute(key)}="{escape(_plain(value))}"' for key, value in attributes.items())
    return Markup(f"<{name}{written}>{''.join(escape(child) for child in children)}</{name}>")


def _attribute(key: str) -> str:
    return key if key in ("viewBox",) else key.rstrip("_").replace("_", "-")


def _plain(value: Value) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def drawing(width: float, height: float, label: str, parts: Iterable[Markup]) -> Markup:
    """Return an <svg> of a fixed size, announced as one image.

    Args:
        width: The width in pixels.
        height: The height in pixels.
        label: The description for readers who do not see the image.
        parts: The elements, later ones on top.
    """
    return element(
        "svg",
        *parts,
        width=width,
        height=height,
        viewBox=f"0 0 {_plain(width)} {_plain(height)}",
        role="img",
        aria_label=label,
    )


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """Return a straight line from (x1, y1) to (x2, y2).

    Args:
        x1: The horizontal position of the beginning, in pixels from the left.
        y1: The vertical position of the beginning, in pixels from the top.
        x2: The horizontal position of the end.
        y2: The vertical position of the end.
        class_: The CSS classes, which give the colour and the thickness.
    """
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def text(x: float, y: float, content: str, class_: str = "label", anchor: str = "start") -> Markup:
    """Return a line of text.

    Args:
        x: The horizontal position of the anchor, in pixels from the left.
        y: The vertical position of the baseline, in pixels from the top.
        content: The text, which is escaped.
        class_: The CSS classes, which give the colour and the size.
        anchor: The part of the text that is at ``x``: ``start``, ``middle`` or ``end``.
    """
    return element("text", content, x=x, y=y, class_=class_, text_anchor=anchor)


def polyline(points: Iterable[tuple[float, float]], class_: str) -> Markup:
    """Return an open line through ``points``."""
    written = " ".join(f"{_plain(float(x))},{_plain(float(y))}" for x, y in points)
    return element("polyline", points=written, class_=class_)


def linear_scale(domain: tuple[float, float], extent: tuple[float, float]) -> Scale:
    """Return the affine map of ``domain`` onto ``extent``; an empty domain maps to the middle.

    >>> linear_scale((0, 10), (100, 200))(2.5)
    125.0
    """
    (low, high), (start, end) = domain, extent
    if high == low:
        return lambda value: (start + end) / 2
    return lambda value: start + (value - low) / (high - low) * (end - start)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return round numbers, a step of 1, 2 or 5 times a power of ten apart, that enclose low and high.

    >>> ticks(0.43, 0.61, 4)
    [0.4, 0.45, 0.5, 0.55, 0.6, 0.65]
    """
    if high <= low:
        low, high = low - 0.5, high + 0.5
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next((m for m in (1, 2, 5) if raw <= m * power * (1 + 1e-9)), 10)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def value_ticks(values: Iterable[float], about: int = 5) -> list[float]:
    """Return ticks for values of a measure: they stay within [0, 1], or [-1, 1], where the values do.

    >>> value_ticks([0.98, 1.0]), value_ticks([1.0]), value_ticks([-0.02, 0.4], 3)
    ([0.98, 0.985, 0.99, 0.995, 1.0], [0.98, 0.99, 1.0], [-0.2, 0.0, 0.2, 0.4])
    """
    known = list(values)
    low, high = min(known, default=0.0), max(known, default=1.0)
    if high - low < 1e-9:
        reach = 0.02 if abs(high) <= 1 else 0.5
        low, high = low - reach, high + reach
        low = max(low, 0.0) if min(known, default=0.0) >= 0 else low
        high = min(high, 1.0) if max(known, default=1.0) <= 1 else high
        return ticks(low, high, 2)
    return ticks(low, high, about)


def tick_places(values: list[float]) -> int:
    """Return how many decimals tell the ticks apart.

    >>> tick_places([0.4, 0.45]), tick_places([0, 100])
    (2, 0)
    """
    step = values[1] - values[0] if len(values) > 1 else 1.0
    return max(0, -math.floor(math.log10(step) + 1e-9)) if step < 1 else 0


def text_width(content: str, size: float = 13) -> float:
    """Return about how many pixels a text takes at ``size`` pixels, rather too many than too few.

    >>> text_width("lora") < text_width("LORA") < text_width("順位付け")
    True
    """
    return size * sum(map(_letter_width, content))


def _letter_width(letter: str) -> float:
    if letter in "mwMW@%":
        return 0.9
    if unicodedata.east_asian_width(letter) in "WF":
        return 1.05
    return 0.7 if letter.isupper() else 0.58


def _fitting(letters: Iterable[str], width: float, size: float) -> str:
    """Return as many of the first letters as fit, at least one."""
    kept = ""
    for letter in letters:
        if kept and text_width(kept + letter, size) > width:
            break
        kept += letter
    return kept


def clip_text(content: str, width: float, size: float = 13) -> str:
    """Return ``content`` cut with an ellipsis to about ``width`` pixels of text at ``size`` pixels.

    >>> clip_text("a short name", 200), clip_text("a longer name", 60)
    ('a short name', 'a long…')
    """
    if text_width(content, size) <= width:
        return content
    return _fitting(content, width - text_width("…", size), size).rstrip() + "…"


def clip_middle(content: str, width: float, size: float = 13) -> str:
    """Return ``content`` cut in its middle to about ``width`` pixels: names that share a beginning stay apart.

    >>> clip_middle("adapter=lora rank=8", 200), clip_middle("adapter=lora rank=8", 84)
    ('adapter=lora rank=8', 'adapt…ank=8')
    """
    if text_width(content, size) <= width:
        return content
    half = (width - text_width("…", size)) / 2
    return _fitting(content, half, size).rstrip() + "…" + _fitting(reversed(content), half, size)[::-1].lstrip()
