"""Documents as vectors, one per document or one per passage and title, and the similarities that follow."""

from dataclasses import dataclass

import numpy as np

from lorank.ranking.scorers.text_ranker import Long
from lorank.ranking.scorers.titled import TitledTable, blend_titles
from lorank.ranking.scorers.tokens import TokenTable


@dataclass(frozen=True)
class EncodedDocuments:
    """The vectors of documents that are read in parts, and how the similarities of parts become a document's.

    Attributes:
        vectors: The float32 vectors [parts, dim], grouped by document.
        begins: The first part of each document, int64 [documents].
        titled: Whether the first part of a document is its title alone, bool [documents].
        long: With ``mean`` the parts count equally, else the best of them.
        title_weight: The weight of a title beside the best passage, 0 or more.
    """

    vectors: np.ndarray
    begins: np.ndarray
    titled: np.ndarray
    long: Long = "truncate"
    title_weight: float = 0.0

    def __len__(self) -> int:
        return len(self.begins)

    @property
    def counts(self) -> np.ndarray:
        """How many parts each document has, int64 [documents]."""
        return np.diff(np.append(self.begins, len(self.vectors)))

    def of(self, documents: np.ndarray) -> "EncodedDocuments":
        """Return some of the documents, int64 [n] positions, in that order."""
        counts = self.counts[documents]
        begins = np.cumsum(counts) - counts
        rows = np.arange(int(counts.sum())) - np.repeat(begins - self.begins[documents], counts)
        vectors = np.asarray(self.vectors[rows], np.float32)
        return EncodedDocuments(vectors, begins, self.titled[documents], self.long, self.title_weight)

    def similarities(self, query: np.ndarray) -> np.ndarray:
        """Return the similarity of each document to a query vector [dim], float32 [documents].

        >>> vectors = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], np.float32)
        >>> documents = EncodedDocuments(vectors, np.array([0, 2]), np.zeros(2, bool), "max")
        >>> documents.similarities(np.array([1.0, 0.0], np.float32)).astype(float).round(1).tolist()
        [1.0, 0.6]
        """
        values: np.ndarray = self.vectors @ query
        if len(values) == len(self.begins):
            return values
        if self.long == "mean":
            return np.asarray(np.add.reduceat(values, self.begins) / self.counts, np.float32)
        return blend_titles(values, self.begins, self.titled, self.title_weight).astype(np.float32)

    def part(self, begin: int, end: int) -> "EncodedDocuments":
        """Return the documents from ``begin`` to before ``end``, their vectors read as float32."""
        first = int(self.begins[begin])
        last = int(self.begins[end]) if end < len(self.begins) else len(self.vectors)
        vectors = np.asarray(self.vectors[first:last], np.float32)
        begins, titled = self.begins[begin:end] - first, self.titled[begin:end]
        return EncodedDocuments(vectors, begins, titled, self.long, self.title_weight)

    def similarity_table(self, queries: np.ndarray) -> np.ndarray:
        """Return the similarity of each document to each query vector [queries, dim], float32 [queries, documents]."""
        values: np.ndarray = np.asarray(queries, np.float32) @ self.vectors.T
        if values.shape[1] == len(self.begins):
            return values
        if self.long == "mean":
            return np.asarray(np.add.reduceat(values, self.begins, axis=1) / self.counts, np.float32)
        rows = [blend_titles(row, self.begins, self.titled, self.title_weight) for row in values]
        return np.asarray(rows, np.float32).reshape(len(values), len(self.begins))


def aggregate(
    q: np.ndarray,
    d: np.ndarray,
    owner: np.ndarray,
    query_at: np.ndarray,
    document_at: np.ndarray,
    long: Long,
    titled: np.ndarray,
    title_weight: float,
) -> np.ndarray:
    """Return one similarity per pair from query vectors, passage vectors, and the document of each passage.

    Args:
        q: The float32 query vectors [queries, dim].
        d: The float32 passage vectors [passages, dim], grouped by document.
        owner: The int64 [passages] document of each passage, in rising order.
        query_at: The int64 [n] query of each pair.
        document_at: The int64 [n] document of each pair.
        long: With ``max`` and ``titled`` the best passage counts, with ``mean`` the mean of all.
        titled: The bool [documents], True where the first passage of a document is its title alone.
        title_weight: The weight of a title beside the best passage, 0 or more.

    Returns:
        The similarities, float32 [n].
    """
    if len(owner) == len(np.unique(owner)):
        return np.asarray(np.einsum("nd,nd->n", q[query_at], d[document_at], dtype=np.float32))
    begins = np.searchsorted(owner, np.arange(owner.max() + 1))
    documents = EncodedDocuments(d, begins, titled, long, title_weight)
    scores = np.empty(len(query_at), np.float32)
    for query in np.unique(query_at):
        rows = query_at == query
        scores[rows] = documents.similarities(q[query])[document_at[rows]]
    return scores


def titles_of(table: TokenTable, documents: np.ndarray) -> np.ndarray:
    """Return whether the first part of each of ``documents`` is its title, bool [documents]."""
    if isinstance(table, TitledTable):
        return np.asarray(table.parts.titled[documents])
    return np.zeros(len(documents), bool)
