"""Training rows, JSON Lines or Parquet, in and out; three layouts, distinguished by their fields.

- ``{"query", "pos": [...], "neg": [...]}`` with ``pos_scores`` and ``neg_scores`` (a teacher's) or without;
- ``{"query", "docs": [...], "labels": [...]}``: grades, or any finite numbers (a teacher's scores, profits, bids);
- ``{"query", "chosen", "rejected"}``: a preference pair.

A ``"user"`` (a text) says who asked or preferred, a ``"weight"`` (0 and up) how much the row counts in training. In
labelled lists all labels may be 0: none of the documents was good enough (the outside option).

A row is one query and one list. Equal document texts are one document of the collection. The list is the
query's candidates; their scores are the teacher's, or 0 where the row gives none.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from lorank.data.collection import Collection, Split
from lorank.data.files import lines
from lorank.data.numbers import Negative, check_negative, read_grade, whole
from lorank.data.parquet import is_parquet, read_records, write_records
from lorank.errors import DataError, UsageError
from lorank.ranking.grades import as_grade
from lorank.reading import is_readable, plain_name

EXPECTED = (
    '{"query", "pos": [...], "neg": [...]}, {"query", "docs": [...], "labels": [...]} or '
    '{"query", "chosen", "rejected"}'
)


@dataclass(frozen=True)
class TrainingRow:
    """One query with its documents, their labels, a teacher's scores, the user and the weight, if any."""

    query: str
    documents: list[str]
    labels: list[int | float]
    scores: list[float] | None = None
    user: str | None = None
    weight: float | None = None


class _RowError(ValueError):
    """What is wrong with a row; the reader adds file and line."""


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise _RowError(f"{what} is {value!r}, not a text")
    if not value.strip():
        raise _RowError(f"{what} is empty")
    return value


def _texts(row: dict[str, Any], key: str) -> list[str]:
    values = row.get(key, [])
    if not isinstance(values, list):
        raise _RowError(f"{key!r} is not a list")
    return [_text(value, f"{key}[{i}]") for i, value in enumerate(values)]


def _numbers(row: dict[str, Any], key: str, length: int) -> list[float]:
    values = row.get(key, [])
    if not isinstance(values, list) or len(values) != length:
        raise _RowError(f"{key!r} is not a list of {length} numbers, one a document")
    read = [None if isinstance(value, bool) else as_grade(value) for value in values]
    for value, number in zip(values, read, strict=True):
        if number is None:
            raise _RowError(f"{key!r} holds {str(value)[:60]}, which is not a finite number")
    return read  # type: ignore[return-value]


def _positives_and_negatives(row: dict[str, Any]) -> TrainingRow:
    pos, neg = _texts(row, "pos"), _texts(row, "neg")
    if not pos:
        raise _RowError("'pos' is empty")
    scores = None
    if "pos_scores" in row or "neg_scores" in row:
        scores = [*_numbers(row, "pos_scores", len(pos)), *_numbers(row, "neg_scores", len(neg))]
    return TrainingRow(_text(row["query"], "query"), pos + neg, [1] * len(pos) + [0] * len(neg), scores)


def _read_labelled(row: dict[str, Any]) -> TrainingRow:
    documents = _texts(row, "docs")
    if not documents:
        raise _RowError("'docs' is empty")
    labels = _numbers(row, "labels", len(documents))
    return TrainingRow(_text(row["query"], "query"), documents, [whole(label) for label in labels])


def _pair(row: dict[str, Any]) -> TrainingRow:
    documents = [_text(row.get(key), key) for key in ("chosen", "rejected")]
    return TrainingRow(_text(row["query"], "query"), documents, [1, 0])


def _with_user_and_weight(record: dict[str, Any], row: TrainingRow) -> TrainingRow:
    user, weight = record.get("user"), record.get("weight")
    if user is not None:
        _text(user, "user")
    number = None if isinstance(weight, bool) else as_grade(weight)
    if weight is not None and (number is None or number < 0):
        raise _RowError(f"the weight {str(weight)[:60]} is not a number from 0 up")
    return replace(row, user=user, weight=None if number is None else float(number))


LAYOUTS: dict[str, Callable[[dict[str, Any]], TrainingRow]] = {
    "pos": _positives_and_negatives,
    "docs": _read_labelled,
    "chosen": _pair,
}


def training_rows(path: str | Path, *, negative: Negative = "error") -> Iterator[tuple[int, TrainingRow]]:
    """Yield (line, row) of a training file; ``negative`` says what a label below 0 is (:mod:`lorank.data.numbers`).

    Raises DataError with file and line for a row of none of the layouts, an empty text, labels or scores that are no
    finite numbers or not one a document, and a document that a row lists twice.
    """
    check_negative(negative)
    for line, record in read_records(path, EXPECTED):
        keys = [key for key in LAYOUTS if key in record]
        try:
            if "query" not in record or len(keys) != 1:
                raise _RowError(f"the fields are {sorted(record)}")
            row = _with_user_and_weight(record, LAYOUTS[keys[0]](record))
            if len(set(row.documents)) < len(row.documents):
                twice = next(text for i, text in enumerate(row.documents) if text in row.documents[:i])
                raise _RowError(f"the document {twice[:60]!r} is listed twice")
        except _RowError as error:
            raise DataError(path, line, str(error), f"a row is {EXPECTED}") from error
        try:
            labels = [read_grade(path, line, label, negative, "label") for label in row.labels]
        except DataError as error:
            raise DataError(path, line, error.problem, f"{error.remedy}; a row is {EXPECTED}") from error
        yield line, replace(row, labels=labels)


def is_training_file(path: str | Path) -> bool:
    """Return whether the first row of the file looks like a training row."""
    path = Path(path)
    piped = not path.is_file() and is_readable(path) and not is_parquet(path) and _begins_with_a_brace(path)
    if not (is_parquet(path) or piped or plain_name(path).endswith((".jsonl", ".json", ".ndjson"))):
        return False
    _, first = next(read_records(path, EXPECTED), (0, {}))
    return "query" in first and any(key in first for key in LAYOUTS)


def _begins_with_a_brace(path: Path) -> bool:
    return next((text.lstrip()[0] for _, text in lines(path)), "") == "{"


def read_rows(
    path: str | Path, name: str | None = None, *, split: str = "train", negative: Negative = "error"
) -> Collection:
    """Read a training file as a collection with one split.

    Query ids are ``q<line>``, document ids ``d1``, ``d2``, ... in order of first appearance.

    Args:
        path: The file, JSON Lines or Parquet.
        name: The collection's name; None takes the file's.
        split: The name of the split.
        negative: What a label below 0 is (:mod:`lorank.data.numbers`).

    Raises:
        DataError: With file and line, for a broken row, a file without rows, and a row without a user where others
            have one.
    """
    path = Path(path)
    documents: dict[str, str] = {}
    queries, qrels, candidates = {}, {}, {}
    users: dict[str, str] = {}
    weights: dict[str, float] = {}
    first_without: int | None = None
    for line, row in training_rows(path, negative=negative):
        query = f"q{line}"
        ids = [documents.setdefault(text, f"d{len(documents) + 1}") for text in row.documents]
        queries[query] = row.query
        qrels[query] = {d: label for d, label in zip(ids, row.labels, strict=True) if label is not None}
        candidates[query] = dict(zip(ids, map(float, row.scores or [0] * len(ids))))
        if row.weight is not None:
            weights[query] = row.weight
        if row.user is not None:
            users[query] = row.user
        elif first_without is None:
            first_without = line
    if not queries:
        raise DataError(path, None, "the file holds no rows", f"a row is {EXPECTED}")
    if users and first_without is not None:
        raise DataError(path, first_without, 'the row has no "user", and others have one', "give every row its user")
    stem = plain_name(path).rpartition(".")[0] or path.name
    return Collection(
        name or stem,
        list(documents.values()),
        list(documents),
        {split: Split(split, queries, qrels, candidates, users or None, weights or None)},
    )


def _documents_of(collection: Collection, split: Split, query: str) -> tuple[list[str], list[int | float], list[float]]:
    """Return the texts, labels and scores of a query's list: its candidates, then judged documents outside them."""
    row = (split.candidates or {}).get(query, {})
    judged = split.qrels.get(query, {})
    ids = [*row, *(document for document in judged if document not in row)]
    lowest = min(row.values(), default=0.0)
    return (
        [str(collection.documents[collection.position[d]]) for d in ids],
        [judged.get(d, 0) for d in ids],
        [row.get(d, lowest) for d in ids],
    )


def _as_positives(
    query: str, texts: list[str], labels: list[int | float], scores: list[float], scored: bool
) -> list[dict[str, Any]]:
    pos, neg = ([i for i, label in enumerate(labels) if (label > 0) is wanted] for wanted in (True, False))
    if not pos:
        return []
    row: dict[str, Any] = {"query": query, "pos": [texts[i] for i in pos], "neg": [texts[i] for i in neg]}
    if scored:
        row |= {"pos_scores": [scores[i] for i in pos], "neg_scores": [scores[i] for i in neg]}
    return [row]


def _as_labels(
    query: str, texts: list[str], labels: list[int | float], scores: list[float], scored: bool
) -> list[dict[str, Any]]:
    return [{"query": query, "docs": texts, "labels": labels}] if texts else []


def _as_pairs(
    query: str, texts: list[str], labels: list[int | float], scores: list[float], scored: bool
) -> list[dict[str, Any]]:
    return [
        {"query": query, "chosen": texts[i], "rejected": texts[j]}
        for i in range(len(texts))
        for j in range(len(texts))
        if labels[i] > labels[j]
    ]


WRITERS = {"pos-neg": _as_positives, "labels": _as_labels, "pairs": _as_pairs}


def write_rows(
    collection: Collection,
    path: str | Path,
    *,
    split: str = "train",
    layout: Literal["pos-neg", "labels", "pairs"] = "labels",
) -> None:
    """Write a split's queries and their lists as training rows.

    Args:
        collection: The collection of texts.
        path: The file to write.
        split: The name of the split.
        layout: ``labels`` keeps grades, ``pos-neg`` keeps the candidates' scores (where not all are 0) and leaves out
            queries without a relevant document, ``pairs`` writes every pair of documents with different labels.

    Raises:
        UsageError: If the collection holds features, or has no such split.
    """
    if collection.has_features:
        raise UsageError(f"collection {collection.name!r} holds features; write it with write_letor")
    chosen = collection.split(split)
    scored = any(score for row in (chosen.candidates or {}).values() for score in row.values())
    write = WRITERS[layout]
    write_records(
        (
            row | _of_query(chosen, query)
            for query, text in chosen.queries.items()
            for row in write(text, *_documents_of(collection, chosen, query), scored)
        ),
        path,
    )


def _of_query(split: Split, query: str) -> dict[str, Any]:
    said = {"user": (split.users or {}).get(query), "weight": (split.weights or {}).get(query)}
    return {key: value for key, value in said.items() if value is not None}
