"""Free training queries from the documents themselves: titles, or first sentences.

Each usable document gives one query whose only relevant document is itself. Leave out the documents that dev
and test judge relevant (``targets``), or the training has seen what the judged queries look for.

The query then stands word for word in its document. ``without_source`` gives the collection whose documents
lack that text, for training on the harder task; the default, and what the packaged demonstration does, is to
leave the documents whole: at test time titles are there to be matched.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from collections.abc import Collection as Container
from dataclasses import replace
from typing import Literal

from lorank.data.beir import body_of
from lorank.data.collection import Collection, Split
from lorank.errors import UsageError, unknown_name
from lorank.ranking.types import Qrels

Source = Literal["titles", "first-sentences"]

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n\s*\n")


def _title(text: str, title: str) -> str:
    return " ".join(title.split())


def first_sentence(text: str, title: str = "") -> str:
    """Return the first sentence of the text after its title, white space evened out.

    >>> first_sentence("Sorting\\nUse sorted(). It is stable.", "Sorting")
    'Use sorted().'
    """
    return " ".join(_SENTENCE_END.split(body_of(text, title).strip(), maxsplit=1)[0].split())


SOURCES: dict[str, Callable[[str, str], str]] = {"titles": _title, "first-sentences": first_sentence}


def targets(collection: Collection, splits: Iterable[str] = ("dev", "test")) -> set[str]:
    """Return the documents that the named splits, as far as they exist, judge relevant."""
    there = [collection.splits[name] for name in splits if name in collection.splits]
    return {document for split in there for row in split.qrels.values() for document, grade in row.items() if grade > 0}


def _texts(collection: Collection, source: str) -> list[str]:
    if source not in SOURCES:
        raise unknown_name("source of free queries", source, SOURCES)
    if collection.has_features:
        raise UsageError(f"collection {collection.name!r} holds features; free queries need texts")
    if source == "titles" and collection.titles is None:
        raise UsageError(f"collection {collection.name!r} has no titles; take free queries from 'first-sentences'")
    titles = collection.titles if collection.titles is not None else [""] * len(collection.documents)
    return [SOURCES[source](text, title) for text, title in zip(collection.documents, titles)]


def free_queries(
    collection: Collection, source: Source = "titles", exclude: Container[str] = frozenset(), *, longest: int = 64
) -> Split:
    """Return a training split of queries ``free-<document id>`` made from the documents.

    Documents whose text says nothing but the query are left out, and so are queries that several documents would give
    (a title such as "Examples" names none of them).

    Args:
        collection: The collection of texts.
        source: What becomes a query: ``titles`` or ``first-sentences``.
        exclude: The ids of documents that give no query, such as the ``targets`` of dev and test.
        longest: The most words of a query, 1 or more.

    Raises:
        UsageError: If the collection holds features or lacks titles, the source is unknown, or no query is left.

    >>> texts, titles = ["Sorting\\nUse sorted().", "Notes\\nMore."], ["Sorting", "Notes"]
    >>> notes = Collection("notes", ["a", "b"], texts, {}, titles)
    >>> free_queries(notes, exclude={"b"}).qrels
    {'free-a': {'a': 1}}
    """
    texts = _texts(collection, source)
    shared = Counter(text.casefold() for text in texts)
    queries: dict[str, str] = {}
    qrels: Qrels = {}
    for document, whole, text in zip(collection.document_ids, collection.documents, texts):
        if document in exclude or shared[text.casefold()] > 1 or not 0 < len(text.split()) <= longest:
            continue
        if text == " ".join(whole.split()):
            continue
        queries[f"free-{document}"] = text
        qrels[f"free-{document}"] = {document: 1}
    if not queries:
        raise UsageError(f"collection {collection.name!r} gives no free queries from its {source}")
    return Split("train", queries, qrels)


def without_source(collection: Collection, source: Source = "titles") -> Collection:
    """Return the collection with each document's title, or first sentence, taken out of its text.

    A document that would be left empty stays whole.
    """
    texts = _texts(collection, source)
    titles = collection.titles if collection.titles is not None else [""] * len(texts)
    changed = []
    for whole, title, text in zip(collection.documents, titles, texts):
        body = body_of(whole, title)
        if source == "first-sentences":
            rest = _SENTENCE_END.split(body.strip(), maxsplit=1)[1:]
            body = "\n".join(part for part in (title, *rest) if part) if rest and text else whole
        changed.append(body if body.strip() else whole)
    return replace(collection, documents=changed, titles=None if source == "titles" else collection.titles)
