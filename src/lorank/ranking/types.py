"""The in-memory shapes of the field: runs and judgments as nested dictionaries."""

Run = dict[str, dict[str, float]]
"""``{query id: {document id: score}}``; the order is by score descending, ties by document id descending."""

Qrels = dict[str, dict[str, int]]
"""``{query id: {document id: relevance}}``; relevance is an integer from 0 up."""
