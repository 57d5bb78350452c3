"""The meter: what asking a judge has cost."""

from dataclasses import dataclass, fields


@dataclass
class Usage:
    """What was asked and what it cost.

    Attributes:
        calls: Questions put to the judge.
        batches: Inferences, when up to ``batch_size`` questions that are ready together share one.
        rounds: Times that the strategy had to wait for answers before it could go on: its latency.
        tokens_in: Tokens read by the judge.
        tokens_out: Tokens written by the judge.
        cache_hits: Questions answered by the cache, at no cost.
        malformed: Answers that had to be repaired or replaced.
        refused: Questions left unasked because the budget was spent.
        wall_time_s: Seconds that the judge took to answer.

    >>> Usage(calls=2, tokens_in=10) + Usage(calls=1)
    Usage(calls=3, batches=0, rounds=0, tokens_in=10, tokens_out=0, cache_hits=0, malformed=0, refused=0,
        wall_time_s=0.0)
    """

    calls: int = 0
    batches: int = 0
    rounds: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cache_hits: int = 0
    malformed: int = 0
    refused: int = 0
    wall_time_s: float = 0.0

    @property
    def tokens(self) -> int:
        """Tokens in and out."""
        return self.tokens_in + self.tokens_out

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})
