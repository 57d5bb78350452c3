"""First-stage runs over a collection: BM25, a bi-encoder, or their fusion with weights chosen on dev."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lorank.data.collection import Collection, Split
from lorank.errors import UsageError
from lorank.progress import ProgressCallback
from lorank.ranking.consensus.fusion import fuse, tune_weights
from lorank.ranking.dense_index.search import search_blocks
from lorank.ranking.metrics.measures import mean_of
from lorank.ranking.scorers.bi_encoder import BiEncoder
from lorank.ranking.scorers.bm25 import BM25
from lorank.ranking.scorers.encoded import EncodedDocuments
from lorank.ranking.types import Run

FUSION_GRID = 21


def cache_folder() -> Path:
    """Return where indexes are kept between commands: lorank/ in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "lorank"


def bm25_index(collection: Collection, folder: Path | None = None) -> BM25:
    """Return the BM25 index of a collection, read from ``folder`` where it stands there and is not stale."""
    texts = require_texts(collection)
    return BM25.open(
        folder or cache_folder() / "bm25" / _safe(collection.name),
        collection.document_ids,
        texts,
        language=collection.search_language,
    )


def require_texts(collection: Collection) -> Sequence[str]:
    """Return the documents' texts; UsageError where they are feature rows, which no first stage searches."""
    if isinstance(collection.documents, np.ndarray):
        raise UsageError(
            f"collection {collection.name!r} holds feature rows, not texts: its candidates are the "
            "rows of each query, and there is no first stage to retrieve from"
        )
    return collection.documents


def dense_run(
    encoder: BiEncoder,
    collection: Collection,
    queries: Mapping[str, str],
    depth: int,
    on_progress: ProgressCallback | None = None,
) -> Run:
    """Return the ``depth`` documents nearest to each query, all documents searched exactly, as the encoder reads them.

    Args:
        encoder: The bi-encoder that gives the vectors.
        collection: The collection of texts.
        queries: The text of each query, by id.
        depth: The number of documents per query, 1 or more.
        on_progress: It receives the number of document passages that are encoded and their total.

    Raises:
        UsageError: If the collection holds feature rows.
    """
    documents = encoder.encode_documents(require_texts(collection), on_progress)
    asked = encoder.encode(list(queries.values()), query=True)
    return nearest(asked, documents, list(queries), list(collection.document_ids), depth)


def nearest(
    query_vectors: np.ndarray, documents: EncodedDocuments, query_ids: list[str], document_ids: list[str], depth: int
) -> Run:
    """Return the run of the ``depth`` most similar documents.

    Args:
        query_vectors: The float32 vectors [queries, dim].
        documents: The vectors of the documents.
        query_ids: The id of each query vector.
        document_ids: The id of each document vector.
        depth: The number of documents per query, 1 or more.

    >>> documents = EncodedDocuments(np.eye(2, dtype=np.float32), np.arange(2), np.zeros(2, bool))
    >>> nearest(np.eye(2, dtype=np.float32), documents, ["q", "r"], ["a", "b"], 1)
    {'q': {'a': 1.0}, 'r': {'b': 1.0}}
    """
    found = search_blocks(query_vectors, [documents], min(depth, len(document_ids)))
    return {
        query: {document_ids[i]: score for i, score in zip(at.tolist(), scores.tolist(), strict=True)}
        for query, (at, scores) in zip(query_ids, found, strict=True)
    }


def fusion_weights(runs: list[Run], dev: Split, measure: str = "nDCG@10") -> np.ndarray:
    """Return the weights of the fused runs that serve dev best; they add up to 1."""
    return tune_weights(runs, lambda run: mean_of(run, dev.qrels, measure), steps=FUSION_GRID - 1)


def fuse_runs(runs: list[Run], weights: np.ndarray, depth: int) -> Run:
    """Return the weighted fusion of standardised runs, cut to the best ``depth``."""
    return {
        query: dict(sorted(row.items(), key=lambda item: (item[1], item[0]), reverse=True)[:depth])
        for query, row in fuse(runs, weights).items()
    }


def _safe(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)
