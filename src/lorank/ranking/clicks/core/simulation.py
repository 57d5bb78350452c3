r"""Clicks of simulated users on given lists, from judgments and a click model.

A document of grade g attracts with

    a = \epsilon + (1 - \epsilon) (2^g - 1) / (2^{g_max} - 1),

and the model says what positions and earlier clicks do.

Paper: O. Chapelle et al., Expected Reciprocal Rank for Graded Relevance, CIKM 2009 (the gain); as simulation of clicks
Q. Ai et al., Unbiased Learning to Rank with Unbiased Propensity Estimation, SIGIR 2018 (there epsilon = .1).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.clicks.core.model import ClickModel, find_click_model

SHUFFLES = ("none", "swap", "all")
BATCH = 4096


@dataclass(frozen=True)
class ShownList:
    """One simulated impression: the query, its documents from the top, and their clicks."""

    query: str
    documents: list[str]
    clicks: list[int]


def attractions(
    lists: Mapping[str, Sequence[str]], grades: Mapping[str, Mapping[str, float]], noise: float = 0.1
) -> dict[str, np.ndarray]:
    """Return how attractive each document of each list is, float64 [documents].

    Args:
        lists: The documents of each query.
        grades: The judgments; what nobody judged has grade 0.
        noise: Epsilon, the attraction of grade 0, from 0 to below 1.

    >>> attractions({"q": ["a", "b"]}, {"q": {"a": 1}})["q"].tolist()
    [1.0, 0.1]
    """
    if not 0 <= noise < 1:
        raise UsageError(f"noise is {noise}; take a share from 0 to below 1")
    highest = max((g for row in grades.values() for g in row.values()), default=0)
    if highest <= 0:
        raise UsageError("no document has a grade above 0, so that nothing would be clicked but noise")
    scale = 2.0**highest - 1
    return {
        query: noise
        + (1 - noise) * (2.0 ** np.array([max(grades.get(query, {}).get(d, 0), 0) for d in documents]) - 1) / scale
        for query, documents in lists.items()
    }


@dataclass
class Simulator:
    """Draws impressions of given lists.

    Attributes:
        lists: The documents of each query, from the top, as the logging ranker orders them.
        attraction: How attractive each is, by query.
        model: The name of a click model.
        depth: The number of documents that are shown.
        shuffle: ``none`` shows the lists as they are, ``swap`` exchanges two positions at random, ``all`` shuffles.
        options: The options of the model, such as ``eta``.
    """

    lists: Mapping[str, Sequence[str]]
    attraction: Mapping[str, np.ndarray]
    model: str = "pbm"
    depth: int = 10
    shuffle: str = "none"
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.shuffle not in SHUFFLES:
            raise UsageError(f"shuffle is {self.shuffle!r}; take one of {', '.join(SHUFFLES)}")
        if self.depth < 1 or not any(self.lists.values()):
            raise UsageError("there is nothing to show: give lists that hold documents, and a depth of 1 or more")
        self._queries = [query for query, documents in self.lists.items() if documents]
        sizes = [len(self.lists[query]) for query in self._queries]
        self._first = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        joined = np.concatenate([self.attraction[query] for query in self._queries])
        self.clicks: ClickModel = find_click_model(self.model).of_relevance(joined, self.depth, **self.options)

    def draw(self, count: int, rng: np.random.Generator) -> Iterator[ShownList]:
        """Yield ``count`` impressions, each of a query drawn evenly."""
        while count > 0:
            batch = min(count, BATCH)
            count -= batch
            yield from self._draw(rng.integers(len(self._queries), size=batch), rng)

    def _draw(self, chosen: np.ndarray, rng: np.random.Generator) -> Iterator[ShownList]:
        pairs, mask = np.zeros((len(chosen), self.depth), np.int64), np.zeros((len(chosen), self.depth), bool)
        for row, query in enumerate(chosen.tolist()):
            own = np.arange(self._first[query], self._first[query + 1])
            own = self._order(own, rng)[: self.depth]
            pairs[row, : len(own)], mask[row, : len(own)] = own, True
        clicks = self.clicks.simulate(pairs, rng, mask)
        for row, number in enumerate(chosen.tolist()):
            query = self._queries[number]
            at = pairs[row, mask[row]] - self._first[number]
            documents = [self.lists[query][i] for i in at.tolist()]
            yield ShownList(query, documents, clicks[row, mask[row]].astype(int).tolist())

    def _order(self, own: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if self.shuffle == "all":
            return rng.permutation(own)
        if self.shuffle == "swap" and len(own) > 1:
            i, j = rng.integers(min(len(own), self.depth), size=2)
            own[[i, j]] = own[[j, i]]
        return own
