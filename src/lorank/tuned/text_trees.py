"""LambdaMART on simple features of texts: the tree ranker to compare with, fitted on a collection's training split."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from lorank.data.collection import Collection
from lorank.errors import UsageError
from lorank.progress import ProgressCallback
from lorank.ranking.scorers.bm25 import BM25, BM25Statistics
from lorank.ranking.scorers.features.rows import FeatureLists
from lorank.ranking.scorers.features.text_features import text_features
from lorank.ranking.scorers.features.trees import TreeRanker
from lorank.ranking.scorers.ranker import Documents, FittedRanker
from lorank.ranking.types import Qrels, Run

DEPTH, MOST_QUERIES = 50, 1000
TREES, LEAVES, RATE = 200, 8, 0.05


class TextTrees(FittedRanker):
    """Score texts by boosted trees over features of query and text (`lorank.ranking.scorers.features.text_features`).

    Args:
        trees: The trees.
        statistics: The term statistics of the collection.
    """

    kind: ClassVar[str] = "text-trees"
    score_scale: ClassVar[str] = "logit"

    def __init__(self, trees: TreeRanker, statistics: BM25Statistics) -> None:
        self.trees, self.statistics = trees, statistics

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
        rows = text_features(self.statistics, queries, list(documents), pairs)
        each = np.stack([np.zeros(len(rows), np.int64), np.arange(len(rows))], 1)
        scores = self.trees.score_pairs([""], rows, each)
        if on_progress is not None:
            on_progress(len(scores), len(scores))
        return scores

    def options(self) -> dict[str, Any]:
        """Return the constructor's further arguments: none that JSON could hold."""
        return {}

    def save(self, folder: str | Path) -> None:
        """Write the trees and the statistics."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        self.trees.save(Path(folder) / "trees")
        self.statistics.save(folder)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what ``save`` wrote."""
        return cls(TreeRanker.load(Path(folder) / "trees"), BM25Statistics.load(folder))


def fit_text_trees(data: Collection, *, seed: int = 0, depth: int = DEPTH) -> TextTrees:
    """Return LambdaMART, fitted to BM25's best documents of the training queries; dev, where there is one, stops it.

    Args:
        data: The collection of texts with a training split.
        seed: The seed of the trees and of the sample of queries.
        depth: How many documents of a query are learned from, 2 or more.

    Raises:
        UsageError: For feature rows, and for training queries none of whose documents is relevant.
    """
    if isinstance(data.documents, np.ndarray):
        raise UsageError(f"lambdamart reads texts, and collection {data.name!r} holds feature rows; train on them")
    train = data.train
    index = BM25.index(data.document_ids, data.documents, language=data.search_language)
    rng = np.random.default_rng(seed)

    def lists_of(queries: dict[str, str], qrels: Qrels) -> FeatureLists:
        names = [query for query in queries if qrels.get(query)]
        if len(names) > MOST_QUERIES:
            names = [names[int(i)] for i in np.sort(rng.permutation(len(names))[:MOST_QUERIES])]
        run: Run = index.search({query: queries[query] for query in names}, depth)
        return _lists(data, index.statistics, queries, {q: row for q, row in run.items() if len(row) > 1}, qrels)

    trees = TreeRanker("lightgbm", trees=TREES, leaves=LEAVES, lr=RATE, seed=seed)
    dev = lists_of(data.dev.queries, data.dev.qrels) if "dev" in data.splits else None
    trees.fit(lists_of(train.queries, train.qrels), dev)
    return TextTrees(trees, index.statistics)


def _lists(
    data: Collection, statistics: BM25Statistics, queries: dict[str, str], run: Run, qrels: Qrels
) -> FeatureLists:
    names = list(run)
    documents = list(dict.fromkeys(document for row in run.values() for document in row))
    place = {document: i for i, document in enumerate(documents)}
    pairs = np.array([(i, place[d]) for i, name in enumerate(names) for d in run[name]], np.int64).reshape(-1, 2)
    texts = [str(data.documents[data.position[document]]) for document in documents]
    rows = text_features(statistics, [queries[name] for name in names], texts, pairs)
    labels = np.array([max(0, int(qrels[name].get(d, 0))) for name in names for d in run[name]])
    offsets = np.concatenate([[0], np.cumsum([len(run[name]) for name in names])]).astype(np.int64)
    return FeatureLists(rows, labels, offsets)
