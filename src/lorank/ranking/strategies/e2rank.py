"""E2Rank: one embedding model retrieves and reranks; to rerank, the query becomes a listwise prompt.

Retrieval scores are cos(e(query), e(d)). For reranking the query is replaced by a prompt that lists the query and the
K best documents, a pseudo-relevance feedback, and all documents are scored again by

    cos(e(prompt(query, d_1..d_K)), e(d)),

with the vectors that they have already. Calls: one more encoding a list, whatever the number of documents. The prompt
is the published one:

    Given a query and some relevant documents, rerank the documents that are the most relevant to the query:
    Documents:
    [1] d_1
    ...
    Search Query: query

The loss ``e2rank`` (`lorank.ranking.losses.e2rank`) trains a model for both. One that was not trained so sees only a
longer query.

Paper: Liu et al., E^2Rank: Your Text Embedding can Also be an Effective and Efficient Listwise Reranker, 2025.

*Deviations*: documents are cut to as many words as let the prompt fit into what the model reads (the published models
read 32,768 tokens, and the query stands at the end). The published code writes "Query:" in training and "Search
Query:" in evaluation; here it is the latter in both. A chat template is not applied.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lorank.errors import UsageError, unknown_name
from lorank.ranking.judges import Judge, Usage
from lorank.ranking.scorers import BiEncoder
from lorank.ranking.scorers.ranker import Ranker
from lorank.ranking.strategies.candidate_list import CandidateList
from lorank.ranking.strategies.opened_model import encoder_of
from lorank.ranking.strategies.registry import Ordered, Standing, by_score, register_model_strategy

INSTRUCTION = "Given a query and some relevant documents, rerank the documents that are the most relevant to the query"
FEEDBACK = 20
"""How many documents a prompt lists."""
WORDS = 1024
"""The most words of each that are shown."""
LISTED = ("given", "retrieval")

Write = Callable[[str, Sequence[str]], str]
"""Returns the prompt of a query and of the documents that are listed."""


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


@register_model_strategy(
    "e2rank", title="E^2Rank: Your Text Embedding can Also be an Effective and Efficient Listwise Reranker"
)
def e2rank_lists(
    model: Judge | Ranker,
    lists: Sequence[CandidateList],
    generator: np.random.Generator,
    *,
    feedback: int = FEEDBACK,
    words: int = WORDS,
    listed: str = "given",
    instruction: str = INSTRUCTION,
) -> Iterator[Ordered]:
    """Yield each list by the similarity of its documents to its prompt; a document of several lists is encoded once.

    Args:
        model: The embedding model, as a ranker.
        lists: The candidates of each query.
        generator: It is not used.
        feedback: The number of documents in a prompt, 0 or more; 0 is retrieval.
        words: The most words of each that are shown, 0 or more.
        listed: ``given`` lists the first documents of a list as it came, ``retrieval`` those nearest to the query.
        instruction: The first line of a prompt; "" leaves it out.

    Raises:
        UsageError: For a model of another kind, an unknown value of ``listed``, or a number below 0.
    """
    encoder = encoder_of(model, "e2rank")
    write = fitting_prompt(encoder, words, instruction)
    known: dict[str, np.ndarray] = {}
    for each in lists:
        new = [text for text in dict.fromkeys(each.texts) if text not in known]
        known.update(zip(new, encoder.encode(new) if new else ()))
        if not each.texts:
            yield Ordered(Standing(()))
            continue
        vectors = np.stack([known[text] for text in each.texts])
        done = e2rank(
            each.query, each.texts, encoder, vectors=vectors, feedback=feedback, words=words, listed=listed, write=write
        )
        asked = 2 if feedback and listed == "retrieval" else 1
        yield Ordered(Standing(done.order, done.scores.tolist()), Usage(calls=len(new) + asked))


def e2rank(
    query: str,
    documents: Sequence[str],
    encoder: Encoder,
    *,
    vectors: np.ndarray | None = None,
    feedback: int = FEEDBACK,
    words: int = WORDS,
    listed: str = "retrieval",
    write: Write | None = None,
) -> Rescored:
    """Rerank documents by the similarity of their vectors to a listwise prompt.

    Args:
        query: The query.
        documents: The documents.
        encoder: The embedding model.
        vectors: Float [documents, dim], the documents' vectors if they are known; else they are encoded, once.
        feedback: How many of the documents are listed in the prompt; 0 is retrieval.
        words: The most words of each that are shown.
        listed: ``retrieval`` lists the documents nearest to the query, ``given`` the first as they came.
        write: It writes the prompt; None writes the published one with ``words`` of each document.

    Raises:
        UsageError: If there is not one vector a document, an option is below 0, or ``listed`` is another word.
    """
    if feedback < 0 or words < 0:
        raise UsageError(f"feedback and words must be 0 or above, got {feedback} and {words}")
    if listed not in LISTED:
        raise unknown_name("value of listed:", listed, LISTED)
    known = encoder.encode(documents) if vectors is None else vectors
    if len(known) != len(documents):
        raise UsageError(f"{len(known)} vectors for {len(documents)} documents")
    if not len(documents):
        return Rescored((), np.zeros(0), query)
    first: Sequence[int] = range(len(documents))
    if feedback and listed == "retrieval":
        first = by_score(_cosines(encoder, query, known).tolist())
    shown = [documents[d] for d in first[:feedback]]
    prompt = listwise_prompt(query, shown, words) if write is None else write(query, shown)
    scores = _cosines(encoder, prompt, known)
    return Rescored(tuple(by_score(scores.tolist())), scores, prompt)


def listwise_prompt(query: str, documents: Sequence[str], words: int, instruction: str = INSTRUCTION) -> str:
    """Return the published prompt of a query and the documents found for it; the query alone where there are none.

    >>> listwise_prompt("a query", ["one two three", "four"], 2, "Rank these")
    'Rank these:\\nDocuments:\\n[1] one two\\n[2] four\\nSearch Query: a query'
    """
    if not documents:
        return query
    shown = [f"[{i}] {' '.join(text.split()[:words])}" for i, text in enumerate(documents, 1)]
    return "\n".join([*([f"{instruction}:"] if instruction else []), "Documents:", *shown, f"Search Query: {query}"])


def fitting_prompt(encoder: BiEncoder, words: int = WORDS, instruction: str = INSTRUCTION) -> Write:
    """Return what writes prompts that an encoder can read to their end, with ``words`` of each document at most.

    Where there is no room for any word of a document, the instruction is left out, and then the documents.

    Args:
        encoder: The embedding model, whose ``room`` bounds the tokens of a prompt.
        words: The most words of a document.
        instruction: The first line of a prompt.
    """

    def fits(text: str) -> bool:
        return encoder.tokens([text], encoder.query_prefix).lengths[0] <= encoder.room

    def write(query: str, documents: Sequence[str]) -> str:
        longest = min(words, max((len(text.split()) for text in documents), default=0))
        for begun in dict.fromkeys((instruction, "")):

            def prompt(count: int, begun: str = begun) -> str:
                return listwise_prompt(query, documents, count, begun)

            most = _largest(longest, lambda count: fits(prompt(count)))
            if most is not None and (most or not longest):
                return prompt(most)
        return query

    return write


def _largest(most: int, holds: Callable[[int], bool]) -> int | None:
    """Return the largest number from 0 to ``most`` for which what holds for every smaller one holds, None if none.

    >>> _largest(10, lambda count: count * count < 50), _largest(3, lambda count: False)
    (7, None)
    """
    if holds(most):
        return most
    if not holds(0):
        return None
    few, many = 0, most
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (middle, many) if holds(middle) else (few, middle)
    return few


def _cosines(encoder: Encoder, text: str, vectors: np.ndarray) -> np.ndarray:
    asked = np.asarray(encoder.encode([text], query=True), dtype=np.float64)[0]
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(asked)
    return np.divide(vectors @ asked, lengths, out=np.zeros(len(vectors)), where=lengths > 0)
