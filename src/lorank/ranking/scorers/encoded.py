"""A collection's documents as vectors, searched exactly: a vector per document, or one per passage and title."""

from dataclasses import dataclass

import numpy as np

from lorank.ranking.scorers.text_ranker import Long
from lorank.ranking.scorers.titled import blend_titles


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
            counts = np.diff(np.append(self.begins, len(values)))
            return np.asarray(np.add.reduceat(values, self.begins) / counts, np.float32)
        return blend_titles(values, self.begins, self.titled, self.title_weight).astype(np.float32)
