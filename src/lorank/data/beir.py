"""BEIR folders: ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/<split>.tsv``, each plain or compressed.

A document's text is its title and body joined by a newline. A query belongs to the splits that judge it; queries
that no split judges are left out, since nothing can be learned or measured on them.

Empty text: a query without text is always an error. A document without title and text is an error too, unless such
documents are at most ``empty_share`` of the corpus (1 in 100 by default): old collections hold a few that were
empty from the start, and some are even judged relevant (Cranfield's 471 and 995), while a wrong field name in
an export empties them all. What is kept so is logged and stays judged.

Beyond BEIR, a query's ``metadata`` may say its ``user``, ``weight`` and ``group``; ``candidates/<split>.run`` holds the
lists that came with the data, and ``propensities/<split>.tsv`` how likely documents were to be looked at.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from lorank.data.bad_rows import collected
from lorank.data.collection import SPLITS, Collection, Split
from lorank.data.files import json_lines, write_json_lines, writing
from lorank.data.numbers import Negative
from lorank.data.trec import add_judgment, judgments, read_qrels, read_run, run_rows, write_qrels, write_run
from lorank.errors import DataError, OnBad, UsageError, report_bad
from lorank.ranking.grades import as_grade
from lorank.ranking.types import Qrels, Run
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


def _read_corpus(path: Path, empty_share: float, on_bad: OnBad) -> tuple[list[str], list[str], list[str]]:
    """Return ids, titles and texts (title and body) of the corpus."""
    documents: dict[str, tuple[str, str]] = {}
    empty: list[int] = []
    for line, row in json_lines(path, _DOCUMENT, on_bad):
        try:
            name = _id(path, line, row, documents, _DOCUMENT)
            title = _field(path, line, row, "title", _DOCUMENT) if row.get("title") is not None else ""
            text = _field(path, line, row, "text", _DOCUMENT)
        except DataError as error:
            report_bad(error, row, on_bad)
            continue
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


class AboutQuery(NamedTuple):
    """What a query's ``metadata`` says."""

    user: str | None
    weight: float | None
    group: str | None


def read_queries(path: str | Path, on_bad: OnBad | None = None) -> dict[str, str]:
    """Read a ``queries.jsonl`` as {query id: text}; raise DataError for duplicate ids and empty texts.

    All bad rows are in one report; ``on_bad`` is called with each, where given.
    """
    return _read_queries(Path(path), on_bad)[0]


def _read_queries(path: Path, on_bad: OnBad | None) -> tuple[dict[str, str], dict[str, AboutQuery]]:
    queries: dict[str, str] = {}
    about: dict[str, AboutQuery] = {}
    with collected(on_bad) as on_bad:
        for line, row in json_lines(path, _QUERY, on_bad):
            try:
                name = _id(path, line, row, queries, _QUERY)
                text = _field(path, line, row, "text", _QUERY)
                if not text.strip():
                    problem = f"the query {name!r} is empty"
                    raise DataError(path, line, problem, "give it text or remove it and its judgments")
                said = _about(path, line, row.get("metadata"))
            except DataError as error:
                report_bad(error, row, on_bad)
                continue
            queries[name] = text
            if said is not None:
                about[name] = said
    return queries, about


def _about(path: Path, line: int, metadata: Any) -> AboutQuery | None:
    """Return user, weight and group where the metadata says any as lorank writes them, None where it does not."""
    if not isinstance(metadata, dict):
        return None
    texts = [value if isinstance(value := metadata.get(key), str) else None for key in ("user", "group")]
    weight = None if isinstance(metadata.get("weight"), bool) else as_grade(metadata.get("weight"))
    if weight is not None and weight < 0:
        raise DataError(path, line, f"the weight {weight} is below 0", "write a weight from 0 up")
    if weight is None and texts == [None, None]:
        return None
    return AboutQuery(texts[0], None if weight is None else float(weight), texts[1])


def read_split(
    path: str | Path,
    name: str,
    queries: dict[str, str],
    documents: Iterable[str],
    *,
    negative: Negative = "error",
    on_bad: OnBad | None = None,
) -> Split:
    """Read one judgment file into a split.

    Args:
        path: The file; every row's query and document must be known.
        name: The split's name.
        queries: The texts of the known queries.
        documents: The ids of the known documents.
        negative: What a relevance below 0 is (:mod:`lorank.data.numbers`).
        on_bad: What is called with each bad row, which is left out.

    Raises:
        DataError: with a report of all bad rows where ``on_bad`` is None, and for a file without judgments.
    """
    known = documents if isinstance(documents, dict | set | frozenset) else set(documents)
    qrels: Qrels = {}
    with collected(on_bad) as on_bad:
        for row in judgments(path, negative=negative, on_bad=on_bad):
            try:
                for kind, value, there in (("query", row.query, queries), ("document", row.document, known)):
                    if value not in there:
                        file = "queries.jsonl" if kind == "query" else "corpus.jsonl"
                        problem = f"the {kind} {value!r} is not in {file}"
                        raise DataError(path, row.line, problem, f"add the {kind} there or remove this row")
                add_judgment(qrels, row, path)
            except DataError as error:
                report_bad(error, f"{row.query}\t{row.document}\t{row.relevance}", on_bad)
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
    on_bad: OnBad | None = None,
) -> Collection:
    """Read a BEIR folder; a ``README.md`` in it becomes the collection's card.

    Args:
        folder: The folder.
        name: The collection's name, by default the folder's (its parent's where the folder is called ``beir``).
        negative: What a relevance below 0 is (see ``trec.judgments``).
        empty_share: The largest share of documents that may be empty, 0 to 1.
        on_bad: What is called with each bad row, which is left out.

    Raises:
        DataError: with a report of all bad rows, each with file and line, where ``on_bad`` is None: broken JSON lines,
            missing fields, duplicate ids, empty text, text that is not UTF-8; then judgments of an unknown query or
            document.
    """
    folder = Path(folder)
    with collected(on_bad) as found:
        ids, titles, documents = _read_corpus(_require(folder, "corpus.jsonl"), empty_share, found)
        queries, about = _read_queries(_require(folder, "queries.jsonl"), found)
    files = split_files(folder)
    if not files:
        raise DataError(
            folder / "qrels",
            None,
            "there are no judgments",
            "write qrels/train.tsv, qrels/dev.tsv or qrels/test.tsv: query-id<TAB>corpus-id<TAB>score",
        )
    known = set(ids)
    splits = {}
    with collected(on_bad) as found:
        for split, path in files.items():
            read = read_split(path, split, queries, known, negative=negative, on_bad=found)
            splits[split] = _with_more(read, folder, about, known, found)
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


def _with_more(split: Split, folder: Path, about: dict[str, AboutQuery], documents: set[str], on_bad: OnBad) -> Split:
    """Return the split with users, weights, groups, candidates and propensities, where the folder has them."""
    said = {query: about[query] for query in split.queries if query in about}
    users = {query: each.user for query, each in said.items() if each.user is not None}
    if users and len(users) < len(split.queries):
        missing = next(query for query in split.queries if query not in users)
        raise DataError(
            folder / "queries.jsonl",
            None,
            f"the query {missing!r} has no user, and others of {split.name!r} have one",
            'give every query its user: {"_id": ..., "text": ..., "metadata": {"user": ...}}',
        )
    return replace(
        split,
        users=users or None,
        weights={query: each.weight for query, each in said.items() if each.weight is not None} or None,
        groups={query: each.group for query, each in said.items() if each.group is not None} or None,
        candidates=_lists(folder, "candidates", f"{split.name}.run", split, documents, on_bad),
        propensities=_lists(folder, "propensities", f"{split.name}.tsv", split, documents, on_bad),
    )


def _lists(folder: Path, room: str, file: str, split: Split, documents: set[str], on_bad: OnBad) -> Run | None:
    """Return a number for documents of the split's queries, where the folder has such a file."""
    path = find(folder / room, file) if (folder / room).is_dir() else None
    if path is None:
        return None
    is_run = room == "candidates"
    read = read_run(path, on_bad=on_bad) if is_run else read_qrels(path, on_bad=on_bad)
    if not all(row.keys() <= documents for row in read.values()):
        for line in run_rows(path, _pass_over) if is_run else judgments(path, on_bad=_pass_over):
            if line.document in read.get(line.query, {}) and line.document not in documents:
                problem = f"the document {line.document!r} is not in corpus.jsonl"
                error = DataError(path, line.line, problem, "add the document there or remove the row")
                on_bad(error, f"{line.query}\t{line.document}")
    return {
        query: {document: float(value) for document, value in read[query].items() if document in documents}
        for query in split.queries
        if query in read
    }


def _pass_over(error: DataError, row: object) -> None:
    """Pass over a bad row in a second reading; the first reported it."""


def write_beir(
    collection: Collection,
    folder: str | Path,
    *,
    compress: bool = False,
    metadata: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Write a text collection as a BEIR folder; each file is written whole or not at all.

    Args:
        collection: The collection.
        folder: The folder, made where it is missing.
        compress: Write gzip files.
        metadata: What each document's ``metadata`` is to hold, by document id.
    """
    if collection.has_features:
        raise UsageError(f"collection {collection.name!r} holds features; write it with write_letor")
    folder, end = Path(folder), ".gz" if compress else ""
    titles = collection.titles if collection.titles is not None else [""] * len(collection.document_ids)
    write_json_lines(
        (
            {"_id": name, "title": title, "text": body_of(text, title)}
            | ({"metadata": dict(metadata[name])} if metadata and name in metadata else {})
            for name, title, text in zip(collection.document_ids, titles, collection.documents)
        ),
        folder / f"corpus.jsonl{end}",
    )
    queries: dict[str, str] = {}
    for split in collection.splits.values():
        for query, text in split.queries.items():
            if queries.setdefault(query, text) != text:
                raise UsageError(f"query {query!r} has different texts in two splits: a BEIR folder holds one")
    about = _metadata_of_queries(collection)
    write_json_lines(
        (
            {"_id": name, "text": text} | ({"metadata": about[name]} if name in about else {})
            for name, text in queries.items()
        ),
        folder / f"queries.jsonl{end}",
    )
    for split in collection.splits.values():
        write_qrels(split.qrels, folder / "qrels" / f"{split.name}.tsv{end}", layout="beir")
        if split.candidates:
            write_run(split.candidates, folder / "candidates" / f"{split.name}.run{end}")
        if split.propensities:
            write_qrels(split.propensities, folder / "propensities" / f"{split.name}.tsv{end}", layout="beir")
    if collection.card:
        with writing(folder / "README.md") as file:
            file.write(collection.card)


def _metadata_of_queries(collection: Collection) -> dict[str, dict[str, Any]]:
    about: dict[str, dict[str, Any]] = {}
    for split in collection.splits.values():
        for key, values in (("user", split.users), ("weight", split.weights), ("group", split.groups)):
            for query, value in (values or {}).items():
                about.setdefault(query, {})[key] = value
    return about


def body_of(text: str, title: str) -> str:
    """Return a document's text without the title line in front.

    >>> body_of("Sorting\\nUse sorted().", "Sorting")
    'Use sorted().'
    """
    if title and text == title:
        return ""
    return text.removeprefix(f"{title}\n") if title else text
