"""The impressions of a log over a collection, as arrays: what a ranker is trained on.

About 14 bytes for each shown document, so that a million lists of ten take 140 MB.
"""

from array import array
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lorank.data.clicks import Impression
from lorank.errors import DataError, OnBad, report_bad
from lorank.ranking.clicks import SessionBuilder, Sessions


class PackedList(NamedTuple):
    """One impression: documents are positions in the collection, labels clicks or gains, positions from 1."""

    query_id: str
    documents: np.ndarray
    labels: np.ndarray
    positions: np.ndarray
    propensities: np.ndarray | None


@dataclass(frozen=True)
class PackedImpressions:
    """Impressions of a log, packed.

    Attributes:
        query_ids: The ids of the queries.
        queries: int32 [n], the query of each impression by its place in ``query_ids``.
        offsets: int64 [n + 1]; impression i has the entries from offsets[i] to offsets[i + 1] of what follows.
        documents: int32 [m], positions in the collection.
        labels: float32 [m], clicks, or gains where the log has them.
        positions: int16 [m], counted from 1.
        propensities: float32 [m], 0 where an impression brings none; None where none does.
    """

    query_ids: Sequence[str]
    queries: np.ndarray
    offsets: np.ndarray
    documents: np.ndarray
    labels: np.ndarray
    positions: np.ndarray
    propensities: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.queries)

    def list_at(self, number: int) -> PackedList:
        """Return one impression."""
        span = slice(int(self.offsets[number]), int(self.offsets[number + 1]))
        chances = None if self.propensities is None else self.propensities[span]
        return PackedList(
            self.query_ids[self.queries[number]],
            self.documents[span].astype(np.int64),
            self.labels[span],
            self.positions[span].astype(np.int64),
            chances,
        )

    def with_clicks(self) -> np.ndarray:
        """Return which impressions hold a label above 0 and another one, int64: those from which an order is
        learned."""
        if not len(self.labels):
            return np.zeros(0, np.int64)
        highest = np.maximum.reduceat(self.labels, self.offsets[:-1])
        lowest = np.minimum.reduceat(self.labels, self.offsets[:-1])
        return np.flatnonzero((highest > 0) & (lowest < highest))

    def of_queries(self, chosen: Container[str]) -> "PackedImpressions":
        """Return the impressions of the queries in ``chosen``."""
        wanted = np.array([query in chosen for query in self.query_ids], bool)
        rows = np.flatnonzero(wanted[self.queries]) if len(self.queries) else np.zeros(0, np.int64)
        sizes = np.diff(self.offsets)
        keep = np.repeat(wanted[self.queries], sizes) if len(self.queries) else np.zeros(0, bool)
        offsets = np.concatenate([[0], np.cumsum(sizes[rows])]).astype(np.int64)
        chances = None if self.propensities is None else self.propensities[keep]
        return replace(
            self,
            queries=self.queries[rows],
            offsets=offsets,
            documents=self.documents[keep],
            labels=self.labels[keep],
            positions=self.positions[keep],
            propensities=chances,
        )

    def sessions(self, document_ids: Sequence[str]) -> Sessions:
        """Return the impressions as sessions, for click models."""
        builder = SessionBuilder()
        for number in range(len(self)):
            each = self.list_at(number)
            names = [document_ids[i] for i in each.documents]
            builder.add(each.query_id, names, (each.labels > 0).astype(int).tolist(), each.positions.tolist())
        return builder.build()

    def rates(self, document_ids: Sequence[str], curve: np.ndarray | None) -> dict[str, dict[str, float]]:
        """Return the label of each shown document per look, by query and document.

        A view counts as the log's propensity of it, or else as ``curve`` [k] at its position, or else as 1.
        """
        looks = np.ones(len(self.labels))
        if curve is not None:
            looks = curve[np.clip(self.positions, 1, len(curve)) - 1]
        if self.propensities is not None:
            looks = np.where(self.propensities > 0, self.propensities, looks)
        at = np.repeat(self.queries.astype(np.int64), np.diff(self.offsets)) * len(document_ids) + self.documents
        pairs, inverse = np.unique(at, return_inverse=True)
        values = np.bincount(inverse, self.labels) / np.bincount(inverse, looks)
        found: dict[str, dict[str, float]] = {}
        for pair, value in zip(pairs.tolist(), values.tolist(), strict=True):
            query, document = divmod(pair, len(document_ids))
            found.setdefault(self.query_ids[query], {})[document_ids[document]] = value
        return found


def pack_impressions(
    impressions: Iterable[Impression],
    position_of: Mapping[str, int],
    path: str | Path,
    queries: Container[str] | None = None,
    on_bad: OnBad | None = None,
) -> PackedImpressions:
    """Return impressions packed.

    Args:
        impressions: The stream.
        position_of: The position of each document id in the collection.
        path: The log, which errors name.
        queries: The ids of queries that are known; None takes any.
        on_bad: What is called with each impression that does not fit the collection, which is left out.

    Raises:
        DataError: With file and line, for a document or a query that the collection does not have.
    """
    ids: dict[str, int] = {}
    query, sizes, documents = array("i"), array("i"), array("i")
    labels, positions, chances = array("f"), array("h"), array("f")
    for each in impressions:
        if queries is not None and each.query_id not in queries:
            error = DataError(
                path,
                each.line or None,
                f"the query {each.query_id!r} is in no split",
                "give the log of this collection",
            )
            report_bad(error, each.session, on_bad)
            continue
        unknown = next((document for document in each.doc_ids if document not in position_of), None)
        if unknown is not None:
            error = DataError(
                path,
                each.line or None,
                f"the document {unknown!r} is not in the collection",
                "give the log of this collection, or add the document",
            )
            report_bad(error, each.session, on_bad)
            continue
        documents.extend(position_of[document] for document in each.doc_ids)
        query.append(ids.setdefault(each.query_id, len(ids)))
        sizes.append(len(each))
        labels.extend(each.clicks if each.gains is None else each.gains)
        positions.extend(each.places)
        chances.extend([0.0] * len(each) if each.propensities is None else each.propensities)
    offsets = np.concatenate([[0], np.cumsum(np.array(sizes, np.int64))]).astype(np.int64)
    stated = np.array(chances, np.float32)
    return PackedImpressions(
        list(ids),
        np.array(query, np.int32),
        offsets,
        np.array(documents, np.int32),
        np.array(labels, np.float32),
        np.array(positions, np.int16),
        stated if (stated > 0).any() else None,
    )
