"""Types of queries, for quality by type: a question, words alone, long, with a number or code.

A type says how a query is written, not what it is about; a query of no other type is of ``keywords``.
"""

import re

QUESTION = re.compile(
    r"^\s*(who|what|when|where|why|how|which|whose|is|are|was|were|do|does|did|can|could|should|will|would|has|have)\b|\?\s*$",
    re.IGNORECASE,
)
LONG = 8


def type_of(query: str) -> str:
    """Return the type of a query: question, long (more than eight words), number, one-word or keywords.

    >>> [type_of(each) for each in ("how are lists sorted", "sorting", "error 404 in logs", "sort dict by value")]
    ['question', 'one-word', 'number', 'keywords']
    """
    words = query.split()
    if QUESTION.search(query):
        return "question"
    if len(words) > LONG:
        return "long"
    if any(any(letter.isdigit() for letter in word) for word in words):
        return "number"
    return "one-word" if len(words) < 2 else "keywords"
