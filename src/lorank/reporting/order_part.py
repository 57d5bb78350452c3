"""The order that a ranker keeps, and what became of its layers: agreement.json and shrink.json of a run folder."""

from typing import Any

from pydantic import BaseModel, ConfigDict, NonNegativeInt

AGREEMENT, SHRINK = "agreement.json", "shrink.json"


class OrderPart(BaseModel):
    """A part of these files: fields that it does not know are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class EstimateCard(OrderPart):
    """A mean with its interval."""

    mean: float
    interval: tuple[float, float]


class FlippedCard(OrderPart):
    """Pairs by the gap of A's scores, in spreads; ``high`` is "inf" in the last row."""

    low: float
    high: float
    pairs: NonNegativeInt
    flipped: NonNegativeInt

    @property
    def span(self) -> str:
        """The gap in words."""
        return f"{self.low:g} and more" if self.high == float("inf") else f"{self.low:g} to {self.high:g}"


class MeasuredCard(OrderPart):
    """A measure of both, and B's difference to A."""

    first: float
    second: float
    difference: EstimateCard


class CostCard(OrderPart):
    """What a ranker costs."""

    pairs_per_second: float
    weights: NonNegativeInt | None = None
    bytes: NonNegativeInt | None = None


class AgreementCard(OrderPart):
    """How far two rankers or runs agree, as `lorank agree --json` prints it."""

    a: str
    b: str
    queries: NonNegativeInt
    documents: NonNegativeInt
    tau: EstimateCard
    overlap: EstimateCard
    rbo: EstimateCard
    same_first: float
    mean_move: float
    flipped: list[FlippedCard] = []
    depth: NonNegativeInt = 10
    measures: dict[str, MeasuredCard] = {}
    costs: list[CostCard] = []
    groups: NonNegativeInt | None = None


class ShrunkLayerCard(OrderPart):
    """A layer: None as its rank says that it stays dense."""

    path: str
    shape: tuple[int, int]
    rank: NonNegativeInt | None = None
    error: float | None = None


class ShrinkCard(OrderPart):
    """What `lorank shrink` made of the layers."""

    ranker: str = ""
    method: str
    ranks: str
    weights: tuple[int, int]
    bytes: tuple[int, int]
    layers: list[ShrunkLayerCard] = []


def order_section(agreement: AgreementCard | None, shrunk: ShrinkCard | None) -> dict[str, Any] | None:
    """Return what the section shows, None where the folder holds neither file."""
    if agreement is None and shrunk is None:
        return None
    speed = None
    if agreement is not None and len(agreement.costs) == 2 and agreement.costs[0].pairs_per_second > 0:
        speed = agreement.costs[1].pairs_per_second / agreement.costs[0].pairs_per_second
    return {"agreement": agreement, "shrunk": shrunk, "speed": speed}
