"""What `lorank inspect --attention --save` keeps, as it is read for the report."""

from pydantic import BaseModel, ConfigDict, NonNegativeInt


class AttentionPart(BaseModel):
    """A part of what was found: fields that it does not know are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class AttentionLayerCard(AttentionPart):
    """One attention: the bound of its scores, and how many of its heads are below the threshold."""

    path: str
    bound: float
    heads: NonNegativeInt
    below: NonNegativeInt


class AttentionRanksCard(AttentionPart):
    """The ranks that a policy learned for one attention, means over heads and texts."""

    width: NonNegativeInt
    rank: float
    error: float
    errors: dict[int, float] = {}

    @property
    def lower(self) -> list[tuple[int, float]]:
        """The ranks below the whole width, rising, and the errors at them."""
        return sorted(self.errors.items())[:-1]


class LearnedCard(AttentionPart):
    """The ranks of all attentions by path, and what the whole width cost."""

    latency_weight: float
    layers: dict[str, AttentionRanksCard] = {}


class AttentionCard(AttentionPart):
    """What `lorank inspect --attention` keeps."""

    tokens: NonNegativeInt
    threshold: float
    layers: list[AttentionLayerCard] = []
    ranks: LearnedCard | None = None
