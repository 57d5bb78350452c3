"""A few queries before and after: those that gained most, and those that lost most, side by side."""

from pathlib import Path
from typing import Any

import numpy as np

from lorank.data.collection import Collection, Split
from lorank.files import write_json
from lorank.ranking.metrics.measures import per_query
from lorank.ranking.types import Run
from lorank.reporting.run_folder import EXAMPLES, QUERIES
from lorank.reporting.sections import cut

MEASURE = "nDCG@10"
SNIPPET, QUERY_LETTERS = 160, 240


def before_and_after(
    collection: Collection,
    split: Split,
    before: tuple[str, Run],
    after: tuple[str, Run],
    gains: int = 4,
    losses: int = 2,
    top: int = 5,
) -> list[dict[str, Any]]:
    """Return examples.json: the queries with the largest gains and losses in nDCG@10, with their top documents.

    Ties are broken by query id, so the choice is reproducible.

    Args:
        collection: The collection that both runs rank.
        split: The split whose queries are compared.
        before: The name of the first system and its run.
        after: The name of the second system and its run.
        gains: The most queries that gained, 0 or more.
        losses: The most queries that lost, 1 or more.
        top: The number of documents per query and system.
    """
    values = [per_query(run, split.qrels, [MEASURE])[MEASURE] for _, run in (before, after)]
    change = {query: values[1][query] - values[0][query] for query in split.queries if query in values[0]}
    ordered = sorted(change, key=lambda query: (-change[query], query))
    chosen = [q for q in ordered[:gains] if change[q] > 0] + [q for q in ordered[-losses:] if change[q] < 0]
    return [
        {
            "query_id": query,
            "query": split.queries[query],
            "change": change[query],
            "before": _side(collection, split, query, before, top),
            "after": _side(collection, split, query, after, top),
        }
        for query in chosen
    ]


def write_examples(
    folder: Path, collection: Collection, split: Split, before: tuple[str, Run], after: tuple[str, Run]
) -> None:
    """Write what a report shows of single queries into a run folder: queries.json, and examples.json of text documents.

    Args:
        folder: The run folder.
        collection: The collection that both runs rank.
        split: The split whose queries are compared.
        before: The name of the first system and its run.
        after: The name of the second system and its run.
    """
    texts = {query: cut(split.queries[query], QUERY_LETTERS) for query in after[1] if split.queries.get(query)}
    if texts:
        write_json(folder / QUERIES, texts, indent=0)
    if not isinstance(collection.documents, np.ndarray):
        write_json(folder / EXAMPLES, before_and_after(collection, split, before, after), indent=1)


def _side(collection: Collection, split: Split, query: str, system: tuple[str, Run], top: int) -> dict[str, Any]:
    name, run = system
    judged = split.qrels.get(query, {})
    best = sorted(run.get(query, {}).items(), key=lambda item: (item[1], item[0]), reverse=True)[:top]
    return {
        "system": name,
        "documents": [
            {
                "id": document,
                "title": _title(collection, document),
                "snippet": _snippet(collection, document),
                "score": score,
                "relevance": judged.get(document),
            }
            for document, score in best
        ],
    }


def _title(collection: Collection, document: str) -> str:
    position = collection.position[document]
    return collection.titles[position] if collection.titles else document


def _snippet(collection: Collection, document: str) -> str:
    position = collection.position[document]
    text = str(collection.documents[position])
    if collection.titles:
        text = text.removeprefix(collection.titles[position])
    text = " ".join(text.split())
    return text if len(text) <= SNIPPET else text[:SNIPPET].rsplit(" ", 1)[0] + " …"
