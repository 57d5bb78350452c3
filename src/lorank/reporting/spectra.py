"""The section of spectra: a heat map of ranks in use, intruder dimensions by threshold, attention, doubtful queries."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lorank.reporting.attention_part import AttentionShown, attention_part
from lorank.reporting.charts import block_and_kind, clip_start, curve_chart
from lorank.reporting.run_folder import SpectraCard, SpectrumOfQuery
from lorank.reporting.sections import Chart, both_widths, cut
from lorank.reporting.svg import drawing, element, text

MOST_QUERIES, QUERY_LETTERS = 20, 160
NARROW = 480


@dataclass(frozen=True)
class Spectra:
    """What is drawn and said of a run's spectra; a part that was not looked at is None or empty."""

    layers: int
    mean_share: float | None
    heat: Chart | None
    intruders: Chart | None
    intruders_at_half: int | None
    looked_at: int
    rankme: float | None
    dimensions: int | None
    texts: int | None
    attention: AttentionShown | None
    queries: list[SpectrumOfQuery]


def spectra_part(card: SpectraCard | None) -> Spectra | None:
    """Return the section of spectra.json; None where the folder has none."""
    if card is None:
        return None
    used = [(row.path, row.effective_rank, row.rank) for row in card.layers if row.rank]
    heat = both_widths(lambda width: heat_map(used, width)) if used else None
    found, rank = card.intruders, card.rankme
    curve = None
    if found is not None and found.curve:
        points = [(eps, float(count)) for eps, count in found.curve]
        curve = both_widths(
            lambda width: curve_chart(points, width, x_name="cosine below", y_name="intruder dimensions", dots=True)
        )
    return Spectra(
        len(used),
        sum(effective / most for _, effective, most in used) / len(used) if used else None,
        heat,
        curve,
        None if found is None else next((count for eps, count in found.curve if abs(eps - 0.5) < 1e-9), None),
        0 if found is None else found.looked_at,
        None if rank is None else rank.value,
        None if rank is None else rank.dimensions,
        None if rank is None else rank.texts,
        attention_part(card.attention),
        [each.model_copy(update={"text": cut(each.text, QUERY_LETTERS)}) for each in card.queries[:MOST_QUERIES]],
    )


def heat_map(layers: Sequence[tuple[str, float, int]], width: int) -> Markup:
    """Return effective ranks by kind of weight (rows) and block (columns), darker for more of the rank in use.

    Args:
        layers: Of each layer its path, its effective rank, and its rank, 1 or more.
        width: The width in pixels.
    """
    cells = {block_and_kind(path): (path, effective, rank) for path, effective, rank in layers}
    kinds = list(dict.fromkeys(kind for _, kind in cells))
    blocks = sorted({-1 if block is None else block for block, _ in cells})
    size = 12 if width >= NARROW else 11
    left, top, row = min(7 * max(map(len, kinds)) + 12, 0.46 * width), 22, 20
    cell = min((width - left - 4) / len(blocks), 64)
    parts = [text(left - 8, 14, "block", "tick", "end")]
    step = max(1, math.ceil(24 / cell))
    for place, block in enumerate(blocks):
        if place % step == 0:
            parts.append(text(left + cell * (place + 0.5), 14, "–" if block < 0 else str(block), "tick", "middle"))
    for down, kind in enumerate(kinds):
        y = top + row * down
        shown = clip_start(kind, left - 8, size)
        parts.append(
            element("text", element("title", kind), shown, class_="tick", text_anchor="end", x=left - 8, y=y + 14)
        )
        for place, block in enumerate(blocks):
            found = cells.get((None if block < 0 else block, kind))
            if found is None:
                continue
            path, effective, rank = found
            tip = element("title", f"{path}: {effective:.1f} of {rank}")
            share = min(effective / rank, 1.0)
            x = left + cell * place
            parts.append(
                element(
                    "rect",
                    tip,
                    x=x,
                    y=y + 1,
                    width=max(cell - 1, 0.6),
                    height=row - 2,
                    class_="cell",
                    fill_opacity=round(0.04 + 0.4 * share, 3),
                )
            )
            if cell >= 28:
                parts.append(text(x + cell / 2, y + 14, f"{effective:.1f}", "tick", "middle"))
    label = f"effective ranks of {len(layers)} layers by kind of weight and block"
    return drawing(width, top + row * len(kinds) + 4, label, parts)
