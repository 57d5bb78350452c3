"""How an adapter was made, and the rank and alpha of each of its layers."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from lorank.errors import UsageError
from lorank.lowrank.scaling import scaling_rule


@dataclass(frozen=True)
class Settings:
    """How an adapter was made; ``alpha`` None means the scaling's own default at each layer's rank."""

    method: str = "lora"
    form: str = "lora"
    start: str = "zero"
    scaling: str = "lora"
    rank: int = 8
    alpha: float | None = None
    dropout: float = 0.0
    seed: int = 0
    options: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.rank, int) or self.rank < 0:
            raise UsageError(f"rank {self.rank!r} is not an integer from 0 up")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout {self.dropout!r} is not in [0, 1)")
        if self.alpha is not None and not self.alpha > 0:
            raise UsageError(f"alpha {self.alpha!r} is not above 0")
        scaling_rule(self.scaling)


@dataclass(frozen=True)
class LayerPlan:
    """The rank and alpha of one layer's update."""

    rank: int
    alpha: float
