"""Pairs as tokens: texts tokenised once, what of each is read, and the sequence of a prompt around both."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lorank.ranking.scorers.causal_prompt import Prompt
from lorank.ranking.scorers.text_ranker import Long, Truncation
from lorank.ranking.scorers.tokens import Span, TokenTable, windows


@dataclass(frozen=True)
class PairInputs:
    """Tokens of queries and of documents; a pair is assembled when it is needed.

    Where a prompt joins the end of a text with what follows, ``query_ends`` and ``document_ends`` hold the last tokens.
    """

    queries: TokenTable
    documents: TokenTable
    query_ends: TokenTable | None = None
    document_ends: TokenTable | None = None

    def truncation(self, pairs: np.ndarray, room: int) -> Truncation:
        """Return how many documents of ``pairs`` do not fit beside their query in ``room`` tokens."""
        lengths = self.documents.lengths[pairs[:, 1]]
        too_long = self.queries.lengths[pairs[:, 0]] + lengths > room
        return Truncation(
            len(np.unique(pairs[:, 1])), len(np.unique(pairs[too_long, 1])), int(lengths.max(initial=0)), room
        )

    def with_longest_query(self) -> np.ndarray:
        """Return the pairs [documents, 2] of the longest query with every document."""
        count = len(self.documents)
        return np.stack([np.full(count, int(np.argmax(self.queries.lengths))), np.arange(count)], 1)


@dataclass(frozen=True)
class PairSpans:
    """What is read of each pair: the part of the query, the part of the document, and which pair it is of."""

    query: Span
    document: Span
    owner: np.ndarray

    def __len__(self) -> int:
        return len(self.owner)

    def __getitem__(self, rows: np.ndarray) -> "PairSpans":
        return PairSpans(self.query[rows], self.document[rows], self.owner[rows])


def windows_of_pairs(first: PairSpans, lengths: np.ndarray, room: int, overlap: int) -> PairSpans:
    """Return the passages of pairs: the query with each window of its document that fills the room.

    Args:
        first: What is read of each pair when what does not fit is cut.
        lengths: The int64 [pairs] lengths of the whole documents.
        room: The number of tokens that query and document have together.
        overlap: The number of tokens that neighbouring passages share.
    """
    beside = np.where(first.document.length == lengths, lengths, room - first.query.length)
    owner, start, length = windows(lengths, beside, overlap)
    return PairSpans(first.query[owner], Span(first.document.text[owner], start, length), owner)


def gather_passages(values: np.ndarray, owner: np.ndarray, long: Long) -> np.ndarray:
    """Return one value an owner from values of its passages; ``owner`` ascends from 0.

    >>> gather_passages(np.array([1.0, 3.0, 2.0]), np.array([0, 0, 1]), "mean").tolist()
    [2.0, 2.0]
    """
    begins = np.searchsorted(owner, np.arange(owner[-1] + 1))
    if long == "max":
        return np.asarray(np.maximum.reduceat(values, begins))
    means: np.ndarray = np.add.reduceat(values, begins) / np.bincount(owner).astype(values.dtype)
    return means


def pair_parts(prompt: Prompt, inputs: PairInputs, spans: PairSpans) -> list[tuple[Any, ...]]:
    """Return what stands in the sequences of pairs, in order, for ``interleave``."""
    parts: list[tuple[Any, ...]] = [constant(prompt.before), (inputs.queries, spans.query, 0)]
    if inputs.query_ends is not None:
        parts.append((inputs.query_ends, whole_spans(inputs.query_ends, spans.query.text), 0))
    parts += [constant(prompt.between), (inputs.documents, spans.document, 0)]
    if inputs.document_ends is not None:
        parts.append((inputs.document_ends, whole_spans(inputs.document_ends, spans.document.text), 0))
    return [*parts, constant(prompt.after)]


def constant(ids: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return ids of type 0, as ``interleave`` takes them."""
    return ids, (0,) * len(ids)


def whole_spans(table: TokenTable, texts: np.ndarray) -> Span:
    """Return the whole of each of ``texts``, positions in a table."""
    return Span(texts, np.zeros(len(texts), np.int64), table.lengths[texts])
