"""Feature rows and lists of them: what every feature ranker learns from and scores.

Lists are packed: the rows of list i are rows offsets[i] to offsets[i + 1] of one array, so that nothing is padded
until a network asks for a grid.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lorank.errors import UsageError
from lorank.ranking.scorers.ranker import Documents

WHOLE = 2**24
"""From here on float32 does not hold every whole number."""
ROWS_AT_ONCE = 65536


@dataclass(frozen=True)
class FeatureLists:
    """Labelled lists of feature rows.

    ``rows`` float [documents, features]; ``labels`` [documents], 0 and up; ``offsets`` int64 [lists + 1], from 0 to
    the number of documents, rising.

    >>> lists = FeatureLists(np.eye(3, dtype=np.float32), np.array([1, 0, 2]), np.array([0, 2, 3]))
    >>> len(lists), lists.sizes.tolist(), lists.take([1]).labels.tolist()
    (2, [2, 1], [2])
    """

    rows: np.ndarray
    labels: np.ndarray
    offsets: np.ndarray

    def __post_init__(self) -> None:
        checked_rows(self.rows, None)
        if len(self.labels) != len(self.rows):
            raise UsageError(f"{len(self.rows)} rows but {len(self.labels)} labels")
        if (
            len(self.offsets) < 1
            or self.offsets[0] != 0
            or self.offsets[-1] != len(self.rows)
            or (np.diff(self.offsets) < 0).any()
        ):
            raise UsageError(
                f"offsets must rise from 0 to the number of rows, {len(self.rows)}; got "
                f"{np.asarray(self.offsets).tolist()[:5]} ..."
            )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def sizes(self) -> np.ndarray:
        """The number of documents of each list, int64 [lists]."""
        return np.diff(self.offsets)

    def take(self, chosen: np.ndarray | list[int]) -> "FeatureLists":
        """Return the chosen lists, in that order."""
        at = [np.arange(self.offsets[i], self.offsets[i + 1]) for i in chosen]
        rows = np.concatenate([np.zeros(0, np.int64), *at])
        offsets = np.concatenate([[0], np.cumsum(self.sizes[np.asarray(chosen, np.int64)])]).astype(np.int64)
        return FeatureLists(self.rows[rows], self.labels[rows], offsets)


def grid_of(offsets: np.ndarray, chosen: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return the rows' positions int64 [chosen, longest] (0 where there is none) and the mask.

    >>> grid_of(np.array([0, 2, 3]), np.array([1, 0]))
    (tensor([[2, 0],
            [0, 1]]), tensor([[ True, False],
            [ True,  True]]))
    """
    sizes = offsets[chosen + 1] - offsets[chosen]
    place = np.arange(max(1, sizes.max(initial=0)))
    mask = place < sizes[:, None]
    return torch.from_numpy(np.where(mask, offsets[chosen][:, None] + place, 0)), torch.from_numpy(mask)


def batches_of_lists(sizes: np.ndarray, documents: int) -> Iterator[np.ndarray]:
    """Yield positions of lists, longest first, so that each grid holds about ``documents`` places.

    >>> [batch.tolist() for batch in batches_of_lists(np.array([1, 3, 2]), documents=6)]
    [[1, 2], [0]]
    """
    order = np.argsort(-sizes, kind="stable")
    start = 0
    while start < len(order):
        step = max(1, documents // max(1, int(sizes[order[start]])))
        yield order[start : start + step]
        start += step


def checked_rows(documents: Documents, features: int | None) -> np.ndarray:
    """Return documents as an array [n, features], or raise UsageError saying what they are instead."""
    rows = np.asarray(documents)
    if rows.ndim == 1 and not len(rows):
        return np.zeros((0, features or 0), np.float32)
    if rows.ndim != 2 or rows.dtype.kind not in "fiu":
        raise UsageError(
            f"a FeatureRanker scores rows of numbers [documents, features], not {rows.dtype} of shape "
            f"{rows.shape}; texts need a bi-encoder or a cross-encoder"
        )
    if features is not None and rows.shape[1] != features:
        raise UsageError(f"rows have {rows.shape[1]} features, this ranker was made for {features}")
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = rows[start : start + ROWS_AT_ONCE]
        if not np.isfinite(part).all():
            where = np.argwhere(~np.isfinite(part))[0]
            raise UsageError(
                f"feature {where[1] + 1} of document {start + where[0]} is {part[tuple(where)]}; features "
                "must be finite"
            )
    return rows


def checked_categories(rows: np.ndarray, columns: list[int]) -> np.ndarray:
    """Return the columns of categories, or raise UsageError where one holds something other than whole numbers from 0.

    Args:
        rows: The rows [documents, features].
        columns: The places of the columns, from 0.
    """
    found = np.asarray(rows[:, columns])
    wrong = np.argwhere((found < 0) | (found >= WHOLE) | (found != np.floor(found)))
    if len(wrong):
        row, place = wrong[0]
        raise UsageError(
            f"feature {columns[place] + 1} of document {row} is {found[row, place]:g}; a column of categories holds "
            f"whole numbers from 0 to below {WHOLE}"
        )
    return found


def ndcg(lists: FeatureLists, scores: np.ndarray, *, k: int = 10, gain: str = "exponential") -> np.ndarray:
    """Return nDCG@k of every list, float64 [lists]; NaN for a list without a label above 0.

    Equal scores rank the less relevant document first, so that a constant score earns nothing.

    Args:
        lists: The packed lists with their labels.
        scores: One score per document, [documents].
        k: The cutoff, 1 or more.
        gain: The gain of a grade y: ``exponential`` (2^y - 1) or ``linear`` (y).

    >>> lists = FeatureLists(np.zeros((3, 1)), np.array([1, 0, 0]), np.array([0, 2, 3]))
    >>> ndcg(lists, np.array([0.1, 0.2, 0.0])).round(4).tolist()    # 1 / log2(3)
    [0.6309, nan]
    """
    positive = np.maximum(lists.labels.astype(np.float64), 0.0)
    largest = np.zeros(len(lists))
    np.maximum.at(largest, np.repeat(np.arange(len(lists)), lists.sizes), positive)
    largest = np.repeat(largest, lists.sizes)
    gains = {
        "exponential": -np.exp2(positive - largest) * np.expm1(-math.log(2) * positive),
        "linear": positive / np.where(largest > 0, largest, 1.0),
    }
    own = gains[gain]
    at = np.repeat(np.arange(len(lists)), lists.sizes)
    place = np.arange(len(own)) - lists.offsets[:-1][at]
    discount = np.where(place < k, 1 / np.log2(place + 2), 0.0)
    reached = np.bincount(at, own[np.lexsort((own, -scores, at))] * discount, len(lists))
    best = np.bincount(at, own[np.lexsort((-own, at))] * discount, len(lists))
    return np.asarray(np.divide(reached, best, out=np.full(len(lists), np.nan), where=best > 0))
