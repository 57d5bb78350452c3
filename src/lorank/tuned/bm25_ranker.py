"""BM25 where a ranker is asked for: by a collection's statistics, or by those of the documents that it is given."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from lorank.progress import ProgressCallback
from lorank.ranking.scorers.bm25 import BM25Statistics
from lorank.ranking.scorers.ranker import Documents, FittedRanker


class BM25Ranker(FittedRanker):
    """Score by BM25.

    Args:
        statistics: The term statistics of a collection; None counts the documents of each call, whose scores can then
            be compared within that call alone.

    >>> ranker = BM25Ranker()
    >>> [each.index for each in ranker.rank("whale", ["a red fox", "the whale"])]
    [1, 0]
    """

    kind: ClassVar[str] = "bm25"
    score_scale: ClassVar[str] = "BM25"

    def __init__(self, statistics: BM25Statistics | None = None) -> None:
        self.statistics = statistics

    def score_pairs(
        self,
        queries: Sequence[str],
        documents: Documents,
        pairs: np.ndarray,
        on_progress: ProgressCallback | None = None,
    ) -> np.ndarray:
        """Return float32 scores [n] of the pairs.

        Args:
            queries: The texts of the queries.
            documents: The texts of the documents.
            pairs: The int64 [n, 2] positions in ``queries`` and ``documents``, one row per pair.
            on_progress: It receives the number of pairs at the end.
        """
        texts = list(documents)
        if not texts:
            return np.zeros(0, np.float32)
        scores = (self.statistics or BM25Statistics.of(texts)).score_pairs(queries, texts, pairs)
        if on_progress is not None:
            on_progress(len(scores), len(scores))
        return scores

    def options(self) -> dict[str, Any]:
        """Return the constructor's further arguments: none that JSON could hold."""
        return {}

    def save(self, folder: str | Path) -> None:
        """Write the statistics; what was counted call by call is counted again by the one who loads it."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        if self.statistics is not None:
            self.statistics.save(folder)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read the statistics that ``save`` wrote."""
        return cls(BM25Statistics.load(folder))
