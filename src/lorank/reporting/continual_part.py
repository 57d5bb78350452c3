"""The stream of collections: continual.json of a run folder, as a heat map of quality by stage and test set."""

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from pydantic import BaseModel, ConfigDict, NonNegativeFloat, NonNegativeInt

from lorank.reporting.numbers import decimal
from lorank.reporting.svg import clip_middle, drawing, element, text, text_width

CONTINUAL = "continual.json"


class StreamStage(BaseModel):
    """A stage that is done, and what it cost."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    collection: str
    train_seconds: NonNegativeFloat = 0.0
    steps: NonNegativeInt | None = None
    trained_parameters: NonNegativeInt | None = None
    bytes: NonNegativeInt | None = None


class ContinualCard(BaseModel):
    """What a stream's record holds: quality [stages + 1][tests], the untuned base first."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    method: str
    measure: str = "nDCG@10"
    tests: list[str]
    quality: list[list[float]]
    stages: list[StreamStage] = []
    forgetting: list[float] = []
    transfer: list[float] = []
    final_mean: float = 0.0
    mean_forgetting: float = 0.0
    mean_transfer: float = 0.0
    command: str | None = None


@dataclass(frozen=True)
class ContinualSection:
    """The card, and its heat map."""

    card: ContinualCard
    picture: Markup

    @property
    def sentence(self) -> str:
        """What the stream ended with, in a sentence that claims no difference."""
        card = self.card
        first = sum(card.quality[0]) / len(card.tests)
        return (
            f"A stream of {len(card.tests)} collections by {card.method}: mean {card.measure} "
            f"{decimal(card.final_mean)} over their test sets at the end, {decimal(first)} before training. "
            "No test was made of the difference."
        )


def continual_section(card: ContinualCard | None) -> ContinualSection | None:
    """Return the section of a stream; None where the folder holds none."""
    if card is None or not card.quality or any(len(row) != len(card.tests) for row in card.quality):
        return None
    return ContinualSection(card, heat_map(card))


def heat_map(card: ContinualCard, room: int = 220) -> Markup:
    """Return quality by stage (rows) and test set (columns), darker the better; a test set's own stage is outlined.

    Shades are those of one column, from its worst to its best, since test sets are not equally hard.

    Args:
        card: The stream.
        room: The pixels that the names of rows may take.
    """
    rows = ["untuned", *(f"after {stage.collection}" for stage in card.stages)][: len(card.quality)]
    left = min(room, 24 + int(max(text_width(name, 12) for name in rows)))
    wide, tall, top = 92, 30, 26
    parts: list[Markup] = []
    for j, name in enumerate(card.tests):
        parts.append(text(left + wide * (j + 0.5), 16, clip_middle(name, wide - 8, 12), "tick", "middle"))
    for i, (name, row) in enumerate(zip(rows, card.quality, strict=True)):
        y = top + tall * i
        label = clip_middle(name, left - 10, 12)
        parts.append(text(left - 8, y + tall / 2 + 4, label, "tick", "end"))
        parts += [_cell(card, i, j, (left + wide * j, y), (wide, tall)) for j in range(len(row))]
    said = (
        f"{card.measure} of {len(card.tests)} test sets after each of {len(card.quality) - 1} stages of "
        f"{card.method}; mean forgetting {decimal(card.mean_forgetting)}."
    )
    return drawing(left + wide * len(card.tests) + 4, top + tall * len(rows) + 4, said, parts)


def _cell(card: ContinualCard, i: int, j: int, corner: tuple[float, float], size: tuple[float, float]) -> Markup:
    column = [row[j] for row in card.quality]
    low, high = min(column), max(column)
    share = (card.quality[i][j] - low) / (high - low) if high > low else 0.0
    own = any(d.collection == card.tests[j] for d in card.stages[i - 1 : i]) and i > 0
    (x, y), (width, height) = corner, size
    square: dict[str, Any] = {"x": x + 1, "y": y + 1, "width": width - 2, "height": height - 2}
    tip = element("title", f"{card.tests[j]}: {decimal(card.quality[i][j])}")
    outline = " sure" if own else ""
    shade = element("rect", **square, class_=f"heat{outline}", fill_opacity=round(0.06 + 0.5 * share, 3))
    return element(
        "g", tip, shade, text(x + width / 2, y + height / 2 + 4, decimal(card.quality[i][j]), "figure", "middle")
    )
