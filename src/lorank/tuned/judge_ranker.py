"""A judge where a ranker is asked for: each document is asked about alone, and the answer is its score."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from lorank.errors import UsageError
from lorank.progress import ProgressCallback
from lorank.ranking.judges import Judge
from lorank.ranking.judges.malformed import Malformed, check_malformed
from lorank.ranking.scorers.ranker import Documents, FittedRanker
from lorank.ranking.strategies.reranking import rerank_documents


class JudgeRanker(FittedRanker):
    """Score by asking a judge how relevant each document is; documents without a usable answer score below the others.

    Args:
        judge: Who is asked.
        base: The name that the judge was opened by.

    >>> from lorank.ranking.judges import Oracle
    >>> JudgeRanker(Oracle([0.0, 2.0, 1.0])).score("q", ["a", "b", "c"]).tolist()
    [0.0, 2.0, 1.0]
    """

    kind: ClassVar[str] = "judge"
    score_scale: ClassVar[str] = "a judge's answer"

    def __init__(self, judge: Judge, base: str = "") -> None:
        self.judge, self.base = judge, base

    def score_pairs(
        self,
        queries: Sequence[str],
        documents: Documents,
        pairs: np.ndarray,
        on_progress: ProgressCallback | None = None,
    ) -> np.ndarray:
        """Return float32 scores [n] of the pairs, asked query by query.

        Args:
            queries: The texts of the queries.
            documents: The texts of the documents.
            pairs: The int64 [n, 2] positions in ``queries`` and ``documents``, one row per pair.
            on_progress: It receives the number of pairs that were asked about and their total.

        Raises:
            JudgeError: Where the judge cannot be asked, or no answer could be read.
        """
        scores, done, malformed = np.zeros(len(pairs), np.float32), 0, Malformed()
        for query in np.unique(pairs[:, 0]) if len(pairs) else ():
            rows = np.flatnonzero(pairs[:, 0] == query)
            asked, back = np.unique(pairs[rows, 1], return_inverse=True)
            texts = [documents[int(place)] for place in asked]
            found = rerank_documents(
                queries[int(query)],
                texts,
                self.judge,
                "pointwise",
                top=len(texts),
                cache=None,
                budget=None,
                batch_size=None,
                seed=0,
            )
            scores[rows] = replace_infinite(found.scores)[back.reshape(-1)]
            malformed = malformed + found.malformed
            done += len(rows)
            if on_progress is not None:
                on_progress(done, len(pairs))
        check_malformed(malformed)
        return scores

    def options(self) -> dict[str, Any]:
        """Return the constructor's further arguments: the judge is named by its base."""
        return {}

    def save(self, folder: str | Path) -> None:
        """Refuse: a judge is opened by its name."""
        raise UsageError(f"the judge {self.base} is opened by its name and has no folder to write")

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Refuse: a judge is opened by its name."""
        raise UsageError(f"{folder}: a judge is opened by its name, openai:URL#MODEL or causal:BASE")


def replace_infinite(scores: np.ndarray) -> np.ndarray:
    """Return scores in which what was never answered stands one below the lowest answer.

    >>> replace_infinite(np.array([1.0, -np.inf, 3.0])).tolist()
    [1.0, 0.0, 3.0]
    """
    known = np.isfinite(scores)
    lowest = scores[known].min() if known.any() else 0.0
    return np.where(known, scores, lowest - 1.0).astype(np.float32)
