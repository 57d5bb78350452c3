"""Queries that a language model writes for documents, one for each."""

import re
from collections.abc import Sequence
from typing import Protocol

from lorank.errors import UsageError
from lorank.progress import ProgressCallback

PROMPT = """Write one short search query that this passage answers. Write the query alone.

{examples}Passage: {passage}
Query:"""
EXAMPLE = """Passage: {passage}
Query: {query}

"""
WORDS = 300
"""The words of a passage that are shown."""


class Completes(Protocol):
    """A judge that can write."""

    def complete(self, prompts: Sequence[str]) -> list[str]:
        """Return a text for each prompt."""
        ...


def write_queries(
    judge: object,
    documents: Sequence[str],
    examples: Sequence[tuple[str, str]] = (),
    *,
    together: int = 16,
    on_progress: ProgressCallback | None = None,
) -> list[str]:
    """Return a query for each document, an empty one where nothing usable was written.

    Args:
        judge: A causal language model or an endpoint.
        documents: The texts of the documents.
        examples: Pairs of a passage and a query that show what is asked for.
        together: How many documents are written for at once, 1 or more.
        on_progress: It receives the number of documents that are done and their total.

    Raises:
        UsageError: For a judge that cannot write.
    """
    complete = getattr(judge, "complete", None)
    if complete is None:
        raise UsageError("this judge answers questions and writes nothing; give causal:BASE or openai:URL#MODEL")
    shown = "".join(EXAMPLE.format(passage=_cut(passage), query=query) for passage, query in examples)
    found: list[str] = []
    for first in range(0, len(documents), together):
        part = documents[first : first + together]
        found += map(read_query, complete([PROMPT.format(examples=shown, passage=_cut(text)) for text in part]))
        if on_progress is not None:
            on_progress(len(found), len(documents))
    return found


def read_query(written: str) -> str:
    """Return the query in what a model wrote: its first line, without a label, quotes or a bullet.

    >>> read_query('Query: "how to sort a list"\\nPassage: ...'), read_query("")
    ('how to sort a list', '')
    """
    line = next((line.strip() for line in written.strip().splitlines() if line.strip()), "")
    line = re.sub(r"^(?:[-*\d.)\s]+|(?:search )?query\s*:)\s*", "", line, flags=re.IGNORECASE)
    return " ".join(line.strip(" \"'`").split())


def _cut(text: str) -> str:
    return " ".join(text.split()[:WORDS])
