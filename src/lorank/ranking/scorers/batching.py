"""Batches of like length under a token budget, the same whatever order the texts came in."""

import zlib
from collections.abc import Iterable

import numpy as np


def batches_by_length(lengths: np.ndarray, budget: int, keys: np.ndarray | None = None) -> list[np.ndarray]:
    """Return batches of positions, longest first, each of at most ``budget`` tokens once padded.

    A batch costs ``count * longest``; a text longer than the budget gets a batch of its own. ``keys`` [n]
    break ties between equal lengths, so that the batches depend on the texts and not on their order.

    >>> [batch.tolist() for batch in batches_by_length(np.array([3, 9, 4, 2]), budget=10)]
    [[1], [2, 0], [3]]
    """
    if keys is None:
        keys = np.zeros(len(lengths), np.int64)
    order = np.lexsort((np.arange(len(lengths)), keys, -lengths))
    batches, start = [], 0
    while start < len(order):
        fits = max(1, budget // max(1, int(lengths[order[start]])))
        batches.append(order[start : start + fits])
        start += fits
    return batches


def content_keys(rows: Iterable[np.ndarray]) -> np.ndarray:
    """Return one int64 checksum a row of token ids, to order rows of equal length by what they hold."""
    return np.fromiter((zlib.crc32(np.ascontiguousarray(row).data) for row in rows), np.int64)
