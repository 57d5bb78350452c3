"""The texts of a request: one query, a list of documents, pairs of their positions; checked before any work starts.

A text of Python may hold half a character (a lone surrogate, as `json.loads` makes of a broken emoji), which no encoder
of UTF-8 takes. Such halves are read as U+FFFD, the replacement character, and two halves that belong together as the
one character that they are.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np

from lorank.errors import UsageError


def replace_surrogates(text: str) -> str:
    """Return ``text`` without lone surrogates: each is read as U+FFFD, and a pair of them as one character.

    >>> replace_surrogates("half \\ud83d, whole \\ud83d\\ude00") == "half \\ufffd, whole \\U0001f600"
    True
    """
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def checked_texts(texts: Iterable[Any], what: str = "text", at: Sequence[int] | np.ndarray | None = None) -> list[str]:
    """Return ``texts`` as a list of well-formed strings.

    Args:
        texts: The texts; one string in place of a list is refused.
        what: What each of them is, for the error.
        at: The positions that the error names, [0, 1, ...] by default.

    Raises:
        UsageError: naming the position and the type of the first that is no string.

    >>> checked_texts(["a", 3], "document")
    Traceback (most recent call last):
    lorank.errors.UsageError: document 1 is of type int, not a string...
    """
    if isinstance(texts, (str, bytes)):
        raise UsageError(one_text({"query": "queries"}.get(what, f"{what}s")))
    texts = list(texts)
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            position = place if at is None else at[place]
            raise UsageError(
                f"{what} {position} is of type {type(text).__name__}, not a string; "
                "a ranker of texts reads strings alone"
            )
    return [replace_surrogates(text) for text in texts]


def one_text(what: str) -> str:
    """Return what is said where one string stands in place of a list."""
    return f"the {what} are one string, whose letters would be read one by one; give a list of strings"


def checked_documents(documents: Any) -> Any:
    """Return the documents of a request as something that has a length and positions: a list, or rows of numbers.

    Raises:
        UsageError: For one string, and for sets and mappings, which have no order of documents.
    """
    if isinstance(documents, (str, bytes)):
        raise UsageError(one_text("documents"))
    if isinstance(documents, (Set, Mapping)):
        raise UsageError(f"the documents are a {type(documents).__name__}, which has no positions; give a list")
    if isinstance(documents, (list, tuple)) or (isinstance(documents, np.ndarray) and documents.dtype.kind not in "UO"):
        return documents
    if not isinstance(documents, Iterable):
        raise UsageError(f"the documents are of type {type(documents).__name__}; give a list of strings")
    return list(documents)


def check_query(query: Any) -> None:
    """Raise UsageError unless ``query`` is one string."""
    if not isinstance(query, str):
        raise UsageError(f"the query is of type {type(query).__name__}; give one string")


def checked_pairs(queries: Sequence[Any], documents: Sequence[Any] | np.ndarray, pairs: Any) -> np.ndarray:
    """Return ``pairs`` as int64 [n, 2], positions in ``queries`` and ``documents``.

    Raises:
        UsageError: For queries or documents that are one string, pairs of another shape, and positions that do not
            exist.
    """
    for what, given in (("queries", queries), ("documents", documents)):
        if isinstance(given, (str, bytes)):
            raise UsageError(one_text(what))
    found = np.asarray(pairs)
    if not found.size:
        return np.zeros((0, 2), np.int64)
    if found.ndim != 2 or found.shape[1] != 2 or found.dtype.kind not in "iu":
        raise UsageError(
            f"pairs have the shape {found.shape} and the type {found.dtype}; give whole numbers [n, 2]: the position "
            "of a query and of a document"
        )
    for column, (what, given) in enumerate((("query", queries), ("document", documents))):
        outside = (found[:, column] < 0) | (found[:, column] >= len(given))
        if outside.any():
            row = int(np.argmax(outside))
            raise UsageError(
                f"pair {row} asks for {what} {found[row, column]}; there are {len(given)}, numbered from 0"
            )
    return found.astype(np.int64)
