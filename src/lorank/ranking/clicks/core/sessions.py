"""Click sessions as arrays: what every click model and propensity estimator reads.

A session is a shown list. Column k of the grid is position k + 1, so that a list with gaps (one document that was shown
at position 3) keeps its positions. Equal sessions are stored once with their count, so that memory grows with the
number of different sessions.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from lorank.errors import UsageError

MOST_POSITIONS = 1000
"""A position beyond this one is taken for a mistake in the data."""


@dataclass(frozen=True)
class Sessions:
    """A log as a grid.

    Attributes:
        pairs: int64 [n, k], the number of the (query, document) pair at each position, 0 where masked.
        clicks: bool [n, k].
        mask: bool [n, k], True where a document was shown.
        counts: float64 [n], how often the session occurred.
        names: The (query, document) of each pair's number.
    """

    pairs: np.ndarray
    clicks: np.ndarray
    mask: np.ndarray
    counts: np.ndarray
    names: Sequence[tuple[str, str]]

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def positions(self) -> int:
        """The number of positions, k."""
        return int(self.pairs.shape[1])

    @property
    def impressions(self) -> float:
        """How many lists were shown, equal ones counted each time."""
        return float(self.counts.sum())

    def take(self, chosen: np.ndarray) -> "Sessions":
        """Return the sessions of the rows ``chosen``, under the same numbers of pairs."""
        return replace(
            self,
            pairs=self.pairs[chosen],
            clicks=self.clicks[chosen],
            mask=self.mask[chosen],
            counts=self.counts[chosen],
        )

    def split(self, share: float, seed: int = 0) -> tuple["Sessions", "Sessions"]:
        """Return the sessions at random in two parts, the second with about ``share`` of the impressions.

        Each impression is dealt by itself, so that both parts show the same pairs.
        """
        if not 0 < share < 1:
            raise UsageError(f"the share to hold out is {share}; take one between 0 and 1")
        held = np.random.default_rng(seed).binomial(self.counts.astype(np.int64), share).astype(np.float64)
        first, second = replace(self, counts=self.counts - held), replace(self, counts=held)
        return first.take(first.counts > 0), second.take(second.counts > 0)

    def shown_and_clicked(self) -> tuple[np.ndarray, np.ndarray]:
        """Return how often each pair was shown and clicked at each position, both float64 [pairs, k]."""
        at = (self.pairs * self.positions + np.arange(self.positions))[self.mask]
        weight = np.broadcast_to(self.counts[:, None], self.mask.shape)
        size, shape = len(self.names) * self.positions, (len(self.names), self.positions)
        shown = np.bincount(at, weight[self.mask], size)
        clicked = np.bincount(at, (weight * self.clicks)[self.mask], size)
        return shown.reshape(shape), clicked.reshape(shape)

    def click_rates(self) -> np.ndarray:
        """Return the click-through rate of each position, float64 [k]; NaN where nothing was shown."""
        weight = self.mask * self.counts[:, None]
        with np.errstate(invalid="ignore", divide="ignore"):
            rates: np.ndarray = (weight * self.clicks).sum(0) / weight.sum(0)
        return rates


@dataclass
class SessionBuilder:
    """Collects shown lists one by one, and folds equal ones."""

    _pair: dict[tuple[str, str], int] = field(default_factory=dict)
    _counts: dict[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]], float] = field(default_factory=dict)

    def add(
        self,
        query: str,
        documents: Sequence[str],
        clicks: Sequence[int],
        positions: Sequence[int] | None = None,
        count: float = 1.0,
    ) -> None:
        """Add a shown list.

        Args:
            query: The id of the query.
            documents: The ids of the documents, from the top.
            clicks: 0 or 1 for each document.
            positions: The position of each document, counted from 1; None means 1, 2, 3, ...
            count: How often the list was shown.
        """
        if positions is not None and (min(positions) < 1 or max(positions) > MOST_POSITIONS):
            raise UsageError(
                f"positions are counted from 1 to {MOST_POSITIONS}; got {min(positions)}, {max(positions)}"
            )
        pairs = tuple(self._pair.setdefault((query, document), len(self._pair)) for document in documents)
        places = tuple(range(1, len(pairs) + 1)) if positions is None else tuple(positions)
        key = (pairs, tuple(int(click) for click in clicks), places)
        self._counts[key] = self._counts.get(key, 0.0) + count

    def build(self) -> Sessions:
        """Return the sessions that were added; raise UsageError where there were none."""
        if not self._counts:
            raise UsageError("the log holds no impression")
        width = max(max(places) for _, _, places in self._counts)
        shape = (len(self._counts), width)
        pairs, clicks, mask = np.zeros(shape, np.int64), np.zeros(shape, bool), np.zeros(shape, bool)
        for row, (own, clicked, places) in enumerate(self._counts):
            at = np.array(places) - 1
            pairs[row, at], clicks[row, at], mask[row, at] = own, clicked, True
        return Sessions(pairs, clicks, mask, np.array(list(self._counts.values()), np.float64), list(self._pair))


def sessions_of(rows: Iterable[tuple[str, Sequence[str], Sequence[int]]]) -> Sessions:
    """Return the sessions of rows (query, documents from the top, clicks).

    >>> log = sessions_of([("q", ["a", "b"], [1, 0]), ("q", ["a", "b"], [1, 0]), ("q", ["b", "a"], [0, 0])])
    >>> len(log), log.impressions, log.click_rates().round(2).tolist()
    (2, 3.0, [0.67, 0.0])
    """
    builder = SessionBuilder()
    for query, documents, clicks in rows:
        builder.add(query, documents, clicks)
    return builder.build()
