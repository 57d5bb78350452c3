"""The in-memory shapes of the field: runs and judgments as nested dictionaries."""

Run = dict[str, dict[str, float]]
"""``{query id: {document id: score}}``; the order is by score descending, ties by document id descending."""

Grade = int | float
"""How relevant a document is, above 0 where it is at all: assessors' 0, 1, 2, ..., or any other finite number."""

Qrels = dict[str, dict[str, Grade]]
"""``{query id: {document id: relevance}}``; measures take a relevance below 0 for a document that nobody judged."""
