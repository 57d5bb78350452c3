r"""Peers that rank from what reached them: each keeps every peer's click counts, and merging takes the newest of
each.

    score(q, d) = \sum_{peers p} clicks_p(q, d) / ( \sum_p views_p(q, d) + 1 )

A peer's own counts only grow, with a version for each change; a merge keeps, for each peer, the counts of the higher
version.
So merging is commutative, associative and idempotent, gossip in any order ends at the ranking of all logs together,
and a peer without a network ranks by what it has.

Paper: A. Gold and J. Pouwelse, G-Rank: Unsupervised Continuous Learn-to-Rank for Edge Devices in a P2P Network, 2023.

*Deviations*: reconstructed; the published system ranks by a network over co-occurrences, here counts are the ranking.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from lorank.catalogue import catalogued

Counts = dict[tuple[str, str], tuple[int, int]]


@catalogued(
    "g-rank",
    area="federated",
    title="G-Rank: Unsupervised Continuous Learn-to-Rank for Edge Devices in a P2P Network",
    reach="lorank clicks gossip LOG LOG --out RUN; counts are no training run, so it has no recipe",
)
@dataclass
class Peer:
    """A peer called ``name``; ``known`` holds (version, counts) of each peer, counts being (views, clicks) of pairs.

    >>> one, two = Peer("a"), Peer("b")
    >>> one.observe("q", ["x", "y"], [0, 1]); two.observe("q", ["x", "y"], [1, 1])
    >>> one.merge(two); one.rank("q")
    ['y', 'x']
    """

    name: str
    known: dict[str, tuple[int, Counts]] = field(default_factory=dict)

    def observe(self, query: str, documents: Sequence[str], clicks: Sequence[int]) -> None:
        """Count a list that was shown at this peer."""
        version, counts = self.known.get(self.name, (0, {}))
        counts = dict(counts)
        for document, click in zip(documents, clicks, strict=True):
            views, clicked = counts.get((query, document), (0, 0))
            counts[query, document] = (views + 1, clicked + int(click > 0))
        self.known[self.name] = (version + 1, counts)

    def merge(self, other: "Peer") -> None:
        """Take what another peer knows where it is newer."""
        for name, entry in other.known.items():
            if entry[0] > self.known.get(name, (0, {}))[0]:
                self.known[name] = entry

    def scores(self) -> dict[str, dict[str, float]]:
        """Return the score of each pair, by query and document."""
        total: dict[tuple[str, str], tuple[int, int]] = {}
        for _, counts in self.known.values():
            for pair, (views, clicks) in counts.items():
                before = total.get(pair, (0, 0))
                total[pair] = (before[0] + views, before[1] + clicks)
        found: dict[str, dict[str, float]] = {}
        for (query, document), (views, clicks) in total.items():
            found.setdefault(query, {})[document] = clicks / (views + 1)
        return found

    def rank(self, query: str) -> list[str]:
        """Return the known documents of a query, best first, ties by name."""
        row = self.scores().get(query, {})
        return sorted(row, key=lambda document: (-row[document], document))
