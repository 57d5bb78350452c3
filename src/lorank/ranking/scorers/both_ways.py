r"""Both ways: a ranker of texts made symmetric, for inputs that are of one kind, such as two questions.

    s'(a, b) = \frac{1}{2} (s(a, b) + s(b, a))

Whether two questions ask the same does not depend on which comes first; a cross-encoder's score does, for it reads the
first text in other places and under other token types than the second.

Paper: Guo et al. 2020, A Deep Look into Neural Ranking Models for Information Retrieval, arXiv:1903.06902, section 4.1
(symmetric architectures).

*Deviations*: the survey's symmetric models have layers that cannot tell their inputs apart; here any ranker is made so
from without, at twice the cost where it reads two texts together.
"""

from collections.abc import Sequence

import numpy as np

from lorank.errors import UsageError
from lorank.progress import ProgressCallback
from lorank.ranking.scorers.ranker import Documents, Ranker
from lorank.ranking.scorers.texts import checked_pairs, checked_texts


class BothWays(Ranker):
    """Score by the mean of what a ranker says of two texts and of the same two in each other's places.

    Args:
        ranker: Any ranker of texts, trained or not. The texts that it gets as queries are also documents, and what a
            ranker does to one of them alone (a prefix, a title, passages) is done to each text in turn.

    >>> from lorank.ranking.scorers import BM25
    >>> bm25 = BM25.index(["1", "2"], ["how to sort a list", "sort the words of a list, and the list of lists"])
    >>> def gap(ranker, a="sort a list", b="sort lists of lists"):
    ...     return float(ranker.score(a, [b])[0] - ranker.score(b, [a])[0])
    >>> gap(bm25) == 0, gap(BothWays(bm25)) == 0
    (False, True)
    """

    def __init__(self, ranker: Ranker) -> None:
        self.ranker = ranker

    def score_pairs(
        self,
        queries: Sequence[str],
        documents: Documents,
        pairs: np.ndarray,
        on_progress: ProgressCallback | None = None,
    ) -> np.ndarray:
        """Return the mean of the pairs' scores both ways, float32 [n].

        Args:
            queries: The texts of the queries.
            documents: The texts of the documents.
            pairs: The int64 [n, 2] positions in ``queries`` and ``documents``, one row per pair.
            on_progress: The ranker reports its progress to it.

        Raises:
            UsageError: For documents that are rows of features: a query is a text and cannot take their place.
        """
        if isinstance(documents, np.ndarray):
            raise UsageError("documents are rows of features, which cannot change places with a query; score texts")
        pairs = checked_pairs(queries, documents, pairs)
        queries, documents = checked_texts(queries, "query"), checked_texts(documents, "document")
        place = {text: i for i, text in enumerate(dict.fromkeys([*queries, *documents]))}
        texts = list(place)
        at = [np.array([place[text] for text in side], np.int64) for side in (queries, documents)]
        forth = np.stack([at[0][pairs[:, 0]], at[1][pairs[:, 1]]], 1)
        scores = self.ranker.score_pairs(texts, texts, np.concatenate([forth, forth[:, ::-1]]), on_progress)
        return np.asarray((scores[: len(pairs)] + scores[len(pairs) :]) / np.float32(2))
