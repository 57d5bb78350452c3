"""E2Rank: one embedding model retrieves and reranks; to rerank, the query becomes a listwise prompt.

Retrieval scores are cos(e(query), e(d)). For reranking the query is replaced by a prompt that lists the query and the
K best documents, a pseudo-relevance feedback, and all documents are scored again by

    cos(e(prompt(query, d_1..d_K)), e(d)),

with the vectors that they have already: one more encoding, whatever the number of documents.

Paper: Liu et al., E^2Rank: Your Text Embedding can Also be an Effective and Efficient Listwise Reranker, 2025.

*Deviations*: the prompt's wording is ours; the paper's model is trained with InfoNCE and RankNet on such prompts, and
an untrained encoder sees only a longer query.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.ranking.strategies.registry import by_score


class Encoder(Protocol):
    """What turns texts into vectors, such as a bi-encoder."""

    def encode(self, texts: Sequence[str], *, query: bool = False) -> np.ndarray:
        """Return float vectors [texts, dim]."""
        ...


@dataclass(frozen=True)
class Rescored:
    """``order`` of positions best first, their cosine ``scores`` [n] by position, and the ``prompt`` that gave them."""

    order: tuple[int, ...]
    scores: np.ndarray
    prompt: str


@catalogued(
    "e2rank",
    area="rerank",
    title="E^2Rank: Your Text Embedding can Also be an Effective and Efficient Listwise Reranker",
    reach=(
        "Python alone: it takes an embedding model beside the documents; a strategy of `lorank rerank` asks a judge"
    ),
)
def e2rank(
    query: str,
    documents: Sequence[str],
    encoder: Encoder,
    *,
    vectors: np.ndarray | None = None,
    feedback: int = 20,
    words: int = 64,
) -> Rescored:
    """Rerank documents by the similarity of their vectors to a listwise prompt.

    Args:
        query: The query.
        documents: The documents, in any order.
        encoder: The embedding model.
        vectors: Float [documents, dim], the documents' vectors if they are known; else they are encoded, once.
        feedback: How many of the documents that retrieval ranks first are listed in the prompt; 0 is retrieval.
        words: Words of each that are shown.

    Raises:
        UsageError: If there is not one vector a document, or an option is below 0.
    """
    if feedback < 0 or words < 0:
        raise UsageError(f"feedback and words must be 0 or above, got {feedback} and {words}")
    known = encoder.encode(documents) if vectors is None else vectors
    if len(known) != len(documents):
        raise UsageError(f"{len(known)} vectors for {len(documents)} documents")
    if not len(documents):
        return Rescored((), np.zeros(0), query)
    first = by_score(_cosines(encoder, query, known).tolist())[:feedback]
    prompt = listwise_prompt(query, [documents[d] for d in first], words)
    scores = _cosines(encoder, prompt, known)
    return Rescored(tuple(by_score(scores.tolist())), scores, prompt)


def listwise_prompt(query: str, documents: Sequence[str], words: int) -> str:
    """Return the prompt of a query and the documents found for it; the query alone where there are none.

    >>> listwise_prompt("a query", ["one two three", "four"], 2)
    'a query\\n[1] one two\\n[2] four'
    """
    return "\n".join([query, *(f"[{i}] {' '.join(text.split()[:words])}" for i, text in enumerate(documents, 1))])


def _cosines(encoder: Encoder, text: str, vectors: np.ndarray) -> np.ndarray:
    asked = np.asarray(encoder.encode([text], query=True), dtype=np.float64)[0]
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(asked)
    return np.divide(vectors @ asked, lengths, out=np.zeros(len(vectors)), where=lengths > 0)
