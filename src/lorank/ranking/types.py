"""The in-memory shapes of the field: runs and judgments as nested dictionaries."""

from collections.abc import Mapping

Run = dict[str, dict[str, float]]
"""``{query id: {document id: score}}``; the order is by score descending, ties by document id descending."""

Grade = int | float
"""How relevant a document is, above 0 where it is at all: assessors' 0, 1, 2, ..., or any other finite number."""

Qrels = dict[str, dict[str, Grade]]
"""``{query id: {document id: relevance}}``; measures take a relevance below 0 for a document that nobody judged."""


def order_documents(row: Mapping[str, float]) -> list[str]:
    """Return one query's document ids in trec_eval's order: score descending, then document id descending.

    (trec_eval holds scores in 32 bits: scores closer than that are ties to it and not here.)

    >>> order_documents({"d1": 0.5, "d3": 0.5, "d2": 0.9})
    ['d2', 'd3', 'd1']
    """
    return sorted(row, key=lambda document: (row[document], document), reverse=True)
