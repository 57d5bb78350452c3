"""What each key has used since the server started, and how fast it may: counts and rate limits by the key's name."""

import time
from dataclasses import asdict, dataclass

from lorank.serving.requests.keys import Caller
from lorank.serving.requests.rate import Clock, TokenBucket
from lorank.serving.requests.record import RequestRecord
from lorank.serving.requests.refusal import Refusal

BURST_S = 10.0
"""Seconds of its rate that a key may use at once."""


@dataclass
class Used:
    """The counts of one key."""

    requests: int = 0
    refused: int = 0
    documents: int = 0
    cached_documents: int = 0
    tokens: int = 0
    score_seconds: float = 0.0


class Usage:
    """Counts by the name of the key; only names of keys come in, so that their number is bounded."""

    def __init__(self) -> None:
        self.by_name: dict[str, Used] = {}

    def count(self, caller: Caller, record: RequestRecord, status: int) -> None:
        """Count one request that reached an answer or a refusal."""
        used = self.by_name.setdefault(caller.name, Used())
        used.requests += 1
        used.refused += status >= 400
        if status < 400:
            used.documents += record.rows
            used.cached_documents += record.cached
        used.tokens += record.tokens
        used.score_seconds += record.score_s

    def counts(self) -> dict[str, dict[str, float]]:
        """Return the counts of every key."""
        return {name: asdict(used) for name, used in self.by_name.items()}


class Rates:
    """The rate limits of keys: a bucket of requests and a bucket of tokens for each name.

    Args:
        share: The part of each limit that this process gives, where several serve together.
        clock: Seconds, from any beginning.
    """

    def __init__(self, share: float = 1.0, clock: Clock = time.monotonic) -> None:
        self.share, self.clock = share, clock
        self.buckets: dict[tuple[str, str], TokenBucket] = {}

    def take_request(self, caller: Caller) -> None:
        """Count a request; Refusal 429 where the key has used up its own."""
        self._take("requests", caller, caller.requests_per_minute, 1.0)

    def take_tokens(self, caller: Caller, tokens: int) -> None:
        """Count the estimated tokens of a request; Refusal 429 where the key has used up its own."""
        self._take("tokens", caller, caller.tokens_per_minute, float(tokens))

    def _take(self, what: str, caller: Caller, a_minute: float | None, cost: float) -> None:
        if a_minute is None or not cost:
            return
        rate = a_minute * self.share / 60
        burst = max(rate * BURST_S, 1.0)
        bucket = self.buckets.get((caller.name, what))
        if bucket is None or (bucket.rate, bucket.burst) != (rate, burst):
            bucket = self.buckets[caller.name, what] = TokenBucket(rate, burst, self.clock)
        if seconds := bucket.take(cost):
            raise Refusal(
                429,
                "rate_limited",
                f"this key may use {a_minute:g} {what} a minute; try again after Retry-After seconds",
                seconds,
            )
