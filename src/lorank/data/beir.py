"""BEIR folders: ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/<split>.tsv``, each plain or compressed.

A document's text is its title and body joined by a newline. A query belongs to the splits that judge it; queries
that no split judges are left out, since nothing can be learned or measured on them.

Empty text: a query without text is always an error. A document without title and text is an error too, unless such
documents are at most ``empty_share`` of the corpus (1 in 100 by default): old collections hold a few that were
empty from the start, and some are even judged relevant (Cranfield's 471 and 995), while a wrong field name in
an export empties them all. What is kept so is logged and stays judged.
"""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lorank.data.collection import SPLITS, Collection, Split
from lorank.data.files import json_lines, write_json_lines, writing
from lorank.data.numbers import Negative
from lorank.data.trec import add_judgment, judgments, write_qrels
from lorank.errors import DataError, UsageError
from lorank.ranking.types import Qrels
from lorank.reading import ENDINGS, plain_name

logger = logging.getLogger(__name__)

_DOCUMENT = '{"_id": "d1", "title": "...", "text": "..."}'
_QUERY = '{"_id": "q1", "text": "..."}'


def find(folder: str | Path, name: str) -> Path | None:
    """Return ``folder/name`` or its compressed form, whichever is there; raise DataError where two are."""
    there = [path for end in ("", *ENDINGS) if (path := Path(folder) / f"{name}{end}").is_file()]
    if len(there) > 1:
        raise DataError(
            folder,
            None,
            f"both {there[0].name} and {there[1].name} are there",
            "remove the one that is out of date",
        )
    return there[0] if there else None


def is_beir(folder: str | Path) -> bool:
    """Return whether the folder looks like a BEIR collection: it has a corpus file."""
    return Path(folder).is_dir() and find(folder, "corpus.jsonl") is not None


def _require(folder: Path, name: str) -> Path:
    path = find(folder, name)
    if path is None:
        raise DataError(
            folder,
            None,
            f"there is no {name} or {name}.gz",
            "a BEIR folder holds corpus.jsonl, queries.jsonl and qrels/{train,dev,test}.tsv",
        )
    return path


def _field(path: Path, line: int, row: dict[str, Any], key: str, example: str) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        problem = f"no {key!r}" if key not in row else f"{key!r} is {value!r}, not a string"
        raise DataError(path, line, problem, f"a line is {example}")
    return value


def _id(path: Path, line: int, row: dict[str, Any], seen: dict[str, Any], example: str) -> str:
    if type(row.get("_id")) is int:
        row = {**row, "_id": str(row["_id"])}
    name = _field(path, line, row, "_id", example)
    if not name.strip():
        raise DataError(path, line, "the _id is empty", f"a line is {example}")
    if name in seen:
        raise DataError(path, line, f"the _id {name!r} is there twice", "give every line its own _id")
    return name


def _read_corpus(path: Path, empty_share: float) -> tuple[list[str], list[str], list[str]]:
    """Return ids, titles and texts (title and body) of the corpus."""
    documents: dict[str, tuple[str, str]] = {}
    empty: list[int] = []
    for line, row in json_lines(path, _DOCUMENT):
        name = _id(path, line, row, documents, _DOCUMENT)
        title = _field(path, line, row, "title", _DOCUMENT) if row.get("title") is not None else ""
        text = _field(path, line, row, "text", _DOCUMENT)
        if not text.strip() and not title.strip():
            empty.append(line)
        documents[name] = (title, "\n".join(part for part in (title, text) if part))
    if not documents:
        raise DataError(path, None, "the corpus is empty", f"write one document a line: {_DOCUMENT}")
    if len(empty) > empty_share * len(documents):
        raise DataError(
            path,
            empty[0],
            f"the document has neither title nor text ({len(empty)} of {len(documents)} documents are empty)",
            f"a line is {_DOCUMENT}; fill or drop such documents",
        )
    if empty:
        logger.warning(
            "%s: %d of %d documents are empty (first at line %d) and are kept as they are",
            path,
            len(empty),
            len(documents),
            empty[0],
        )
    titles = [title for title, _ in documents.values()]
    return list(documents), titles, [text for _, text in documents.values()]


def read_queries(path: str | Path) -> dict[str, str]:
    """Read a ``queries.jsonl`` as {query id: text}; raise DataError for duplicate ids and empty texts."""
    path = Path(path)
    queries: dict[str, str] = {}
    for line, row in json_lines(path, _QUERY):
        name = _id(path, line, row, queries, _QUERY)
        text = _field(path, line, row, "text", _QUERY)
        if not text.strip():
            raise DataError(path, line, f"the query {name!r} is empty", "give it text or remove it and its judgments")
        queries[name] = text
    return queries


def read_split(
    path: str | Path,
    name: str,
    queries: dict[str, str],
    documents: Iterable[str],
    *,
    negative: Negative = "error",
) -> Split:
    """Read one judgment file into a split.

    Args:
        path: The judgment file, plain or compressed, in any layout of ``trec.judgments``.
        name: The name of the split.
        queries: The text of each query that may be judged, by id; those with a judgment are the split's.
        documents: The ids of the documents that may be judged.
        negative: What a relevance below 0 is (:mod:`lorank.data.numbers`).

    Raises:
        DataError: If a row's query or document is unknown, or the file holds no judgments.
    """
    known = documents if isinstance(documents, dict | set | frozenset) else set(documents)
    qrels: Qrels = {}
    for row in judgments(path, negative=negative):
        for kind, value, there in (("query", row.query, queries), ("document", row.document, known)):
            if value not in there:
                file = "queries.jsonl" if kind == "query" else "corpus.jsonl"
                raise DataError(
                    path, row.line, f"the {kind} {value!r} is not in {file}", f"add the {kind} there or remove this row"
                )
        add_judgment(qrels, row, path)
    if not qrels:
        raise DataError(path, None, "the file holds no judgments", "a row is: query-id<TAB>corpus-id<TAB>score")
    return Split(name, {query: text for query, text in queries.items() if query in qrels}, qrels)


def split_files(folder: str | Path) -> dict[str, Path]:
    """Return the judgment file of every split in ``folder/qrels``: train, dev, test, then others by name."""
    found = {
        plain_name(path).removesuffix(".tsv")
        for path in (Path(folder) / "qrels").glob("*.tsv*")
        if plain_name(path).endswith(".tsv") and not path.name.startswith(".")
    }
    names = [split for split in SPLITS if split in found] + sorted(found.difference(SPLITS))
    return {name: path for name in names if (path := find(Path(folder) / "qrels", f"{name}.tsv")) is not None}


def read_beir(
    folder: str | Path,
    name: str | None = None,
    *,
    negative: Negative = "error",
    empty_share: float = 0.01,
) -> Collection:
    """Read a BEIR folder; a ``README.md`` in it becomes the collection's card.

    Args:
        folder: The folder with ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/``.
        name: The collection's name; None takes the folder's, or its parent's where the folder is called ``beir``.
        negative: What a relevance below 0 is (:mod:`lorank.data.numbers`).
        empty_share: The largest share of documents, from 0 to 1, that may be empty.

    Raises:
        DataError: With file and line, for a broken JSON line, a missing field, duplicate ids, empty text, text that
            is not UTF-8, and a judgment of an unknown query or document.
    """
    folder = Path(folder)
    ids, titles, documents = _read_corpus(_require(folder, "corpus.jsonl"), empty_share)
    queries = read_queries(_require(folder, "queries.jsonl"))
    files = split_files(folder)
    if not files:
        raise DataError(
            folder / "qrels",
            None,
            "there are no judgments",
            "write qrels/train.tsv, qrels/dev.tsv or qrels/test.tsv: query-id<TAB>corpus-id<TAB>score",
        )
    known = set(ids)
    splits = {split: read_split(path, split, queries, known, negative=negative) for split, path in files.items()}
    card = folder / "README.md"
    full = folder.resolve()
    return Collection(
        name or (full.parent.name if full.name == "beir" else full.name),
        ids,
        documents,
        splits,
        titles if any(titles) else None,
        card.read_text("utf-8", errors="replace") if card.is_file() else "",
    )


def write_beir(collection: Collection, folder: str | Path, *, compress: bool = False) -> None:
    """Write a text collection as a BEIR folder; each file is written whole or not at all."""
    if collection.has_features:
        raise UsageError(f"collection {collection.name!r} holds features; write it with write_letor")
    folder, end = Path(folder), ".gz" if compress else ""
    titles = collection.titles if collection.titles is not None else [""] * len(collection.document_ids)
    write_json_lines(
        (
            {"_id": name, "title": title, "text": body_of(text, title)}
            for name, title, text in zip(collection.document_ids, titles, collection.documents)
        ),
        folder / f"corpus.jsonl{end}",
    )
    queries: dict[str, str] = {}
    for split in collection.splits.values():
        for query, text in split.queries.items():
            if queries.setdefault(query, text) != text:
                raise UsageError(f"query {query!r} has different texts in two splits: a BEIR folder holds one")
    write_json_lines(({"_id": name, "text": text} for name, text in queries.items()), folder / f"queries.jsonl{end}")
    for split in collection.splits.values():
        write_qrels(split.qrels, folder / "qrels" / f"{split.name}.tsv{end}", layout="beir")
    if collection.card:
        with writing(folder / "README.md") as file:
            file.write(collection.card)


def body_of(text: str, title: str) -> str:
    """Return a document's text without the title line in front.

    >>> body_of("Sorting\\nUse sorted().", "Sorting")
    'Use sorted().'
    """
    if title and text == title:
        return ""
    return text.removeprefix(f"{title}\n") if title else text
