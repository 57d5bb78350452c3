"""Click sessions as arrays: what every click model and propensity estimator reads.

A session is a shown list. Column k of the grid is position k + 1, so that a list with gaps (one document that was shown
at position 3) keeps its positions. Equal sessions are stored once with their count, so that memory grows with the
number of different sessions.
"""

from array import array
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
    """Collects shown lists one by one in arrays, and folds equal ones at the end.

    Memory is 7 bytes for each shown document while lists come in, and about 20 more while they are folded, beside the
    names of the pairs, of which there are as many as queries have documents, however long the log is.
    """

    _pair: dict[tuple[str, str], int] = field(default_factory=dict)
    _pairs: "array[int]" = field(default_factory=lambda: array("i"))
    _clicks: "array[int]" = field(default_factory=lambda: array("b"))
    _places: "array[int]" = field(default_factory=lambda: array("h"))
    _sizes: "array[int]" = field(default_factory=lambda: array("h"))
    _counts: "array[float]" = field(default_factory=lambda: array("d"))

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
        self._pairs.extend(self._pair.setdefault((query, document), len(self._pair)) for document in documents)
        self._clicks.extend(int(click) for click in clicks)
        self._places.extend(range(1, len(documents) + 1) if positions is None else positions)
        self._sizes.append(len(documents))
        self._counts.append(count)

    def build(self) -> Sessions:
        """Return the sessions that were added; raise UsageError where there were none."""
        if not self._sizes:
            raise UsageError("the log holds no impression")
        sizes, columns = np.frombuffer(self._sizes, np.int16), np.frombuffer(self._places, np.int16) - 1
        rows = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
        found = np.full((len(sizes), int(columns.max()) + 1), -1, np.int32)
        found[rows, columns] = 2 * np.frombuffer(self._pairs, np.int32) + np.frombuffer(self._clicks, np.int8)
        del rows
        chosen, number = _fold(found)
        counts = np.bincount(number, np.frombuffer(self._counts, np.float64), len(chosen))
        found = found[chosen]
        mask = found >= 0
        pairs, clicks = np.where(mask, found >> 1, 0).astype(np.int64), mask & (found & 1).astype(bool)
        return Sessions(pairs, clicks, mask, counts, list(self._pair))


def _fold(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first place of each different row, in the order of the rows, and the number of each row's kind."""
    kinds = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
    _, first, inverse = np.unique(kinds, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return first[order], rank[inverse]


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
