"""What a click log holds, in one pass and bounded memory: click rates, queries by frequency, pairs at several
positions.

Counts by position, device and day are exact. Of pairs, the log keeps those of a sample of the queries: all of them as
long as
there are at most ``MOST_PAIRS``; beyond that each overflow halves the sample by a hash of the query, which is the same
for any order of the log. Frequent queries are counted by a table that drops the rarest when it is full.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from lorank.data.click_logs.registry import LogCounts
from lorank.data.clicks import Impression

MOST_PAIRS = 500_000
MOST_QUERIES = 100_000


@dataclass
class PairSample:
    """The positions at which the pairs of a hash sample of queries were seen, as bits of a number."""

    most: int = MOST_PAIRS
    level: int = 0
    pairs: dict[tuple[int, int], int] = field(default_factory=dict)
    views: dict[int, int] = field(default_factory=dict)

    def add(self, each: Impression) -> None:
        """Take in an impression where its query is in the sample."""
        query = _hash(each.query_id)
        if query % (1 << self.level):
            return
        self.views[query] = self.views.get(query, 0) + 1
        for document, position in zip(each.doc_ids, each.places):
            key = (query, _hash(document))
            self.pairs[key] = self.pairs.get(key, 0) | 1 << position
        while len(self.pairs) > self.most:
            self.level += 1
            self.pairs = {key: bits for key, bits in self.pairs.items() if key[0] % (1 << self.level) == 0}
            self.views = {key: count for key, count in self.views.items() if key % (1 << self.level) == 0}

    @property
    def share(self) -> float:
        """The share of queries that the sample holds, 1 for all."""
        return float(2.0**-self.level)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big")


@dataclass
class LogSummary:
    """The counts of a log; `describe` and `as_record` say them."""

    impressions: int = 0
    clicked: int = 0
    clicks: int = 0
    shown: Counter[int] = field(default_factory=Counter)
    clicked_at: Counter[int] = field(default_factory=Counter)
    devices: Counter[str] = field(default_factory=Counter)
    frequent: Counter[str] = field(default_factory=Counter)
    dropped: bool = False
    propensities: int = 0
    dwell: list[float] = field(default_factory=lambda: [0.0, 0.0])
    first: float | None = None
    last: float | None = None
    backwards: int = 0
    sample: PairSample = field(default_factory=PairSample)
    counts: LogCounts = field(default_factory=LogCounts)

    def add(self, each: Impression) -> None:
        """Take in an impression."""
        self.impressions += 1
        self.clicks += sum(each.clicks)
        self.clicked += any(each.clicks)
        self.shown.update(each.places)
        self.clicked_at.update(p for p, click in zip(each.places, each.clicks) if click)
        self.propensities += each.propensities is not None
        if each.device is not None:
            self.devices[each.device] += 1
        for seconds, click in zip(each.dwell or (), each.clicks):
            self.dwell = [self.dwell[0] + click, self.dwell[1] + seconds * click]
        if each.time is not None:
            self.backwards += self.last is not None and each.time < self.last
            self.first = each.time if self.first is None else min(self.first, each.time)
            self.last = each.time if self.last is None else max(self.last, each.time)
        self.frequent[each.query_id] += 1
        if len(self.frequent) > 2 * MOST_QUERIES:
            self.frequent, self.dropped = Counter(dict(self.frequent.most_common(MOST_QUERIES))), True
        self.sample.add(each)

    def click_rates(self) -> dict[int, float]:
        """Return clicks per view of each position."""
        return {k: self.clicked_at[k] / self.shown[k] for k in sorted(self.shown)}

    def several(self) -> dict[str, float]:
        """Return how many pairs the log shows, and the shares seen at one, two and more positions."""
        number = Counter(min(bits.bit_count(), 3) for bits in self.sample.pairs.values())
        total = sum(number.values())
        shares = {name: number[k] / max(total, 1) for k, name in ((1, "one"), (2, "two"), (3, "more"))}
        return {"pairs": total / self.sample.share, **shares}

    def query_frequency(self) -> dict[str, float]:
        """Return how many queries there are, and the share of impressions of the most frequent 1% and of those seen
        once."""
        views = sorted(self.sample.views.values(), reverse=True)
        total = max(sum(views), 1)
        head = views[: max(1, len(views) // 100)]
        return {
            "queries": len(views) / self.sample.share,
            "share_of_most_frequent_percent": sum(head) / total,
            "share_seen_once": sum(1 for v in views if v == 1) / max(len(views), 1),
        }

    def as_record(self) -> dict[str, Any]:
        """Return the summary as JSON data."""
        return {
            "impressions": self.impressions,
            "clicks": self.clicks,
            "with_a_click": self.clicked,
            "click_rate": {str(k): rate for k, rate in self.click_rates().items()},
            "views": {str(k): self.shown[k] for k in sorted(self.shown)},
            "queries": self.query_frequency(),
            "most_frequent": dict(self.frequent.most_common(10)),
            "pairs": self.several(),
            "sampled_queries": self.sample.share,
            "devices": dict(self.devices.most_common(20)),
            "propensities": self.propensities,
            "mean_dwell": self.dwell[1] / self.dwell[0] if self.dwell[0] else None,
            "time": [self.first, self.last],
            "earlier_than_the_row_above": self.backwards,
            "left_out": dict(self.counts.left_out),
        }

    def describe(self) -> str:
        """Return the summary in lines."""
        found, pairs, rates = self.query_frequency(), self.several(), self.click_rates()
        about = "" if self.sample.level == 0 else f" (of a {self.sample.share:.1%} sample of the queries)"
        lines = [
            f"{self.impressions:,} lists, {self.clicks:,} clicks, {self.clicked / max(self.impressions, 1):.1%} of the "
            "lists have one",
            "position       " + " ".join(f"{k:>8}" for k in list(rates)[:12]),
            "views          " + " ".join(f"{self.shown[k]:>8,}" for k in list(rates)[:12]),
            "clicks a view  " + " ".join(f"{rates[k]:>8.4f}" for k in list(rates)[:12]),
            f"{found['queries']:,.0f} queries; the most frequent 1% have {found['share_of_most_frequent_percent']:.1%} "
            f"of the lists, {found['share_seen_once']:.1%} were asked once{about}",
            "most frequent: " + ", ".join(f"{q[:40]} ({n:,})" for q, n in self.frequent.most_common(5)),
            f"{pairs['pairs']:,.0f} pairs of a query and a document: {pairs['one']:.1%} seen at one position, "
            f"{pairs['two']:.1%} at two, {pairs['more']:.1%} at more{about}",
        ]
        if self.devices:
            lines.append("devices: " + ", ".join(f"{name} ({n:,})" for name, n in self.devices.most_common(5)))
        if self.first is not None and self.last is not None:
            lines.append(f"time: {_moment(self.first)} to {_moment(self.last)}")
        if self.dwell[0]:
            lines.append(f"a clicked document was read for {self.dwell[1] / self.dwell[0]:.1f} s on average")
        if self.backwards:
            lines.append(f"{self.backwards:,} lists are earlier than one above them: the log is not in order of time")
        lines.append(f"{self.propensities:,} lists state propensities")
        if left := self.counts.describe():
            lines.append(left)
        return "\n".join(lines)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(" ", "seconds") if seconds > 1e8 else f"{seconds:g} s"


def summarise(impressions: Iterable[Impression], counts: LogCounts | None = None) -> LogSummary:
    """Return what a log holds.

    >>> summarise([Impression("s", "q", ("a", "b"), (0, 1)), Impression("s", "q", ("b", "a"), (1, 0))]).several()["two"]
    1.0
    """
    summary = LogSummary(counts=counts or LogCounts())
    for each in impressions:
        summary.add(each)
    return summary
