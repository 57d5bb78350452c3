"""What a judged comparison of runs holds: means, intervals, values a query, and paired tests."""

from dataclasses import asdict, dataclass, field
from typing import Any, Self


@dataclass(frozen=True)
class SystemResult:
    """One system: per measure its mean, its bootstrap interval and its value for every query."""

    mean: dict[str, float]
    interval: dict[str, tuple[float, float]]
    values: dict[str, dict[str, float]]
    judged: float
    """Share of the top 10 that carries a judgment."""
    description: str = ""
    cost: dict[str, float] = field(default_factory=dict)
    """What the system cost, e.g. train_seconds, score_seconds, trained_parameters, bytes."""
    role: str = ""
    """Its place in a ladder, where it has one: first-stage, untuned or tuned."""


@dataclass(frozen=True)
class Comparison:
    """A paired comparison on one measure: ``difference`` = system - baseline over the same queries."""

    system: str
    baseline: str
    measure: str
    difference: float
    interval: tuple[float, float]
    p: float
    p_holm: float
    wins: int
    ties: int
    losses: int


@dataclass(frozen=True)
class Evaluation:
    """Several systems judged on the same queries; `lorank evaluate --json` and results.json hold this."""

    collection: str
    split: str
    measures: list[str]
    queries: int
    systems: dict[str, SystemResult]
    comparisons: list[Comparison]
    ceiling: dict[str, float]
    """Per system, the recall of its whole list: no reranking of it can find more."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Seed, resamples, confidence, independent groups, the gain of nDCG, what unjudged and empty queries count as."""
    ceiling_ndcg10: dict[str, float] = field(default_factory=dict)
    """Per system, the mean nDCG@10 (linear gain) of the ideal order of its list."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Restore what ``to_dict`` gave (after a trip through JSON)."""
        systems = {
            name: SystemResult(**{**row, "interval": {m: tuple(v) for m, v in row["interval"].items()}})
            for name, row in data["systems"].items()
        }
        comparisons = [Comparison(**{**row, "interval": tuple(row["interval"])}) for row in data["comparisons"]]
        return cls(**{**data, "systems": systems, "comparisons": comparisons})
