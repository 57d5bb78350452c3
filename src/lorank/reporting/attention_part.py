"""What `lorank inspect --attention` found: how large the scores of each attention are, and the ranks that would do."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lorank.reporting.attention_card import AttentionCard, AttentionLayerCard, AttentionRanksCard
from lorank.reporting.charts import block_and_kind, clip_start
from lorank.reporting.sections import Chart, both_widths
from lorank.reporting.svg import drawing, element, line, linear_scale, text, ticks

ROW = 22


@dataclass(frozen=True)
class AttentionShown:
    """What is drawn and said of attention; the ranks are None where none were learned."""

    tokens: int
    threshold: float
    heads: int
    below: int
    scores: Chart
    ranks: list[tuple[str, AttentionRanksCard]]
    latency_weight: float | None


def attention_part(card: AttentionCard | None) -> AttentionShown | None:
    """Return what the section of spectra shows of attention; None where it was not looked at."""
    if card is None or not card.layers:
        return None
    rows = [(label_of(each.path), each) for each in card.layers]
    learned = card.ranks
    return AttentionShown(
        card.tokens,
        card.threshold,
        sum(each.heads for each in card.layers),
        sum(each.below for each in card.layers),
        both_widths(lambda width: score_chart(rows, card.threshold, width)),
        [] if learned is None else [(label_of(path), each) for path, each in learned.layers.items()],
        None if learned is None else learned.latency_weight,
    )


def label_of(path: str) -> str:
    """Return what an attention is called: its block where its path has one.

    >>> label_of("encoder.layer.3.attention.self"), label_of("attention.self")
    ('block 3', 'attention.self')
    """
    block = block_and_kind(path)[0]
    return path if block is None else f"block {block}"


def score_chart(rows: Sequence[tuple[str, AttentionLayerCard]], threshold: float, width: int) -> Markup:
    """Return the bound of each attention's scores as a bar, with the threshold as a line through all.

    Args:
        rows: Labels and attentions, one or more.
        threshold: sqrt(log tokens), above 0.
        width: The width in pixels.
    """
    left, right, top = min(90.0, 0.3 * width), width - 44.0, 24.0
    bottom = top + ROW * len(rows)
    marks = ticks(0.0, max(threshold, *(each.bound for _, each in rows)), 5 if width >= 480 else 4)
    x = linear_scale((0.0, marks[-1]), (left, right))
    parts = [line(x(mark), top, x(mark), bottom, "grid") for mark in marks]
    parts += [text(x(mark), bottom + 17, f"{mark:g}", "tick", "middle") for mark in marks]
    for place, (label, each) in enumerate(rows):
        y = top + ROW * place
        tip = element("title", f"{each.path}: up to {each.bound:.2f}, {each.below} of {each.heads} heads below")
        reach = max(x(each.bound) - left, 1.0)
        parts.append(text(left - 8, y + 15, clip_start(label, left - 8, 12), "tick", "end"))
        parts.append(element("rect", tip, x=left, y=y + 4, width=reach, height=ROW - 8, class_="bar gain"))
        beside = left + reach + 6
        if beside - 4 < x(threshold) < beside + 28:
            beside = x(threshold) + 5
        parts.append(text(beside, y + 15, f"{each.bound:.1f}", "tick"))
    parts.append(line(x(threshold), top - 6, x(threshold), bottom, "whisker"))
    parts.append(text(x(threshold) + 4, 12, f"root of log tokens, {threshold:.2f}", "note"))
    parts.append(text(right, bottom + 35, "scores up to", "note", "end"))
    below = sum(each.bound < threshold for _, each in rows)
    said = f"Bounds of the scores of {len(rows)} attentions; {below} lie below {threshold:.2f} with all their heads."
    return drawing(width, bottom + 42, said, parts)
