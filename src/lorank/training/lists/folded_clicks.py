r"""Impressions of a query that show the same documents, as one list: their clicks, with where each document stood.

A loss that is linear in its labels is the same over n such impressions as over one list whose labels are their means,

    \frac{1}{n} \sum_t \sum_i c_{ti} w_{k_{ti}} l_i(s) = \sum_i l_i(s) \sum_k w_k \frac{c_{ik}}{n},

with c_{ik} the clicks on document i while it stood at position k and w a weight of positions. So a step reads a query
and its documents once and learns from all that the log says of them, where single impressions would be drawn with
their noise.

The list of n impressions counts n / m, with m the mean over lists; one that counts more than once stands round(n / m)
times in an epoch and counts as much less each time. One whose documents come out equal says nothing of their order and
counts nothing, as for every loss over lists.
"""

from dataclasses import dataclass

import numpy as np

from lorank.data.candidates import TrainingList
from lorank.data.click_logs.packed import PackedImpressions


@dataclass(frozen=True)
class FoldedLog:
    """Which impressions are one list.

    Attributes:
        log: The impressions.
        rows: int64 [n], the impressions, those of a list beside each other.
        offsets: int64 [lists + 1]; list i has the rows from offsets[i] to offsets[i + 1].
        copies: int64 [lists], how often a list stands in an epoch, 1 and up.
    """

    log: PackedImpressions
    rows: np.ndarray
    offsets: np.ndarray
    copies: np.ndarray

    def __len__(self) -> int:
        return len(self.copies)

    @property
    def epoch_numbers(self) -> np.ndarray:
        """The numbers of the lists of an epoch, each as often as it stands there, int64."""
        return np.repeat(np.arange(len(self)), self.copies)

    def list_at(self, number: int) -> TrainingList:
        """Return one list; impressions and clicks are divided by its copies and the mean impressions of a list."""
        log, rows = self.log, self.rows[self.offsets[number] : self.offsets[number + 1]]
        size = int(log.offsets[rows[0] + 1] - log.offsets[rows[0]])
        entries = (log.offsets[rows][:, None] + np.arange(size)).ravel()
        documents = np.unique(log.documents[entries])
        positions = log.positions[entries].astype(np.int64)
        shape = len(documents), int(positions.max())
        at = np.searchsorted(documents, log.documents[entries]) * shape[1] + positions - 1
        shown = np.bincount(at, minlength=shape[0] * shape[1]).reshape(shape)
        clicked = np.bincount(at, log.labels[entries], shape[0] * shape[1]).reshape(shape)
        scale = len(self) / (len(self.rows) * self.copies[number])
        clicked_at = (clicked * scale).astype(np.float32)
        return TrainingList(
            log.query_ids[log.queries[rows[0]]],
            documents.astype(np.int64),
            clicked_at.sum(1),
            shown_at=(shown * scale).astype(np.float32),
            clicked_at=clicked_at,
        )


def fold_log(log: PackedImpressions) -> FoldedLog:
    """Return which impressions show the same documents for the same query at the same positions.

    Those without a click are among them, for a rate is of all impressions; lists of which no impression tells one
    document from another are left out.
    """
    sizes = np.diff(log.offsets)
    kind, found = np.zeros(len(log), np.int64), 0
    for size in np.unique(sizes):
        own = np.flatnonzero(sizes == size)
        entries = log.offsets[own][:, None] + np.arange(size)
        parts = (log.queries[own][:, None], np.sort(log.documents[entries]), np.sort(log.positions[entries]))
        rows = np.ascontiguousarray(np.concatenate(parts, 1, dtype=np.int32))
        _, kind_of = np.unique(
            rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1]))).ravel(), return_inverse=True
        )
        kind[own] = found + kind_of
        found += int(kind_of.max()) + 1
    informative = np.zeros(found, bool)
    informative[kind[log.with_clicks()]] = True
    kept = np.flatnonzero(informative[kind])
    _, kind = np.unique(kind[kept], return_inverse=True)
    counts = np.bincount(kind)
    copies = np.maximum(1, np.round(counts / counts.mean())).astype(np.int64) if len(counts) else counts
    return FoldedLog(log, kept[np.argsort(kind, kind="stable")], np.concatenate([[0], np.cumsum(counts)]), copies)
