"""The contract of every judge: questions in, replies out."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import lru_cache

from lorank.errors import LorankError
from lorank.ranking.judges.question import KINDS, Question, Reply


class JudgeError(LorankError):
    """A judge could not be asked at all; what it answered before is kept by the cache."""


@lru_cache(maxsize=65536)
def count_words(text: str) -> int:
    """Return the number of white-space separated words, the stand-in for tokens where a judge has no tokenizer.

    >>> count_words("sort a dict")
    3
    """
    return len(text.split())


class Judge(ABC):
    """Anything that answers questions about documents; ``answer`` is the one method to write."""

    kinds: frozenset[str] = KINDS
    """The kinds of question that it answers."""

    @property
    def identity(self) -> str | None:
        """What tells this judge's answers from another's, across processes; None when that is unknown."""
        return None

    @abstractmethod
    def answer(self, query: str, documents: Sequence[str], questions: Sequence[Question]) -> Iterable[Reply]:
        """Yield one reply a question, in order; replies that are yielded are kept even if a later one fails.

        The answer to a question depends on that question alone, not on what else is in the batch.

        Raises:
            JudgeError: When the judge cannot be asked. What it says wrongly is no error: it is checked, repaired
                and counted as malformed by whoever asked.
        """

    def most_shown(self, kind: str) -> int | None:
        """Return the most documents that a question of ``kind`` may show; None where the judge sets no bound."""
        return None

    def tokens(self, query: str, documents: Sequence[str], question: Question) -> int:
        """Return the tokens, in and out, that the question is expected to cost; a token budget goes by it."""
        return self.tokens_in(query, documents, question) + tokens_out(question)

    def tokens_in(self, query: str, documents: Sequence[str], question: Question) -> int:
        """Return the words of the query and of the documents shown."""
        return count_words(query) + sum(count_words(documents[d]) for d in question.documents)

    def key(self, query: str, documents: Sequence[str], question: Question) -> str:
        """Return what the answer is stored under: a digest of this judge and of everything that it is shown."""
        return digest(self.identity, question.kind, query, [documents[d] for d in question.documents])


def tokens_out(question: Question) -> int:
    """Return the least number of tokens that an answer takes: one a number or place that it names."""
    return len(question.documents) if question.kind in ("listwise", "groupwise", "selection") else 1


def digest(*parts: object) -> str:
    """Return the SHA-256 of JSON-ready parts, as hexadecimal digits."""
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode("utf-8", "surrogatepass")).hexdigest()
