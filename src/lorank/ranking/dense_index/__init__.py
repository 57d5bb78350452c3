"""An index of vectors that lasts: kept in a folder, memory-mapped, added to, deleted from, and searched exactly."""

from lorank.ranking.dense_index.fingerprint import fingerprint_encoder
from lorank.ranking.dense_index.index import DenseIndex
from lorank.ranking.dense_index.search import search_blocks

__all__ = ["DenseIndex", "fingerprint_encoder", "search_blocks"]
