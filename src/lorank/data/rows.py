"""Training rows, JSON Lines or Parquet, in and out; three layouts, distinguished by their fields.

- ``{"query", "pos": [...], "neg": [...]}`` with ``pos_scores`` and ``neg_scores`` (a teacher's) or without;
- ``{"query", "docs": [...], "labels": [...]}``: grades, or any finite numbers (a teacher's scores, profits, bids);
- ``{"query", "chosen", "rejected"}``: a preference pair.

A ``"user"`` (a text) says who asked or preferred, a ``"weight"`` (0 and up) how much the row counts in training, a
``"group"`` (a text) what the row belongs to, ``"propensities"`` (one per document, above 0 and at most 1) how likely
each was to be looked at, a ``"task"`` (a text or a whole number) which task the row is of, and a ``"preference"``
(numbers from 0 up that sum to 1) how much each of several aims counts: adapters that route read these two. In labelled
lists all labels may be 0: none of the documents was good enough (the outside option).

A row is one query and one list. Equal document texts are one document of the collection. The list is the
query's candidates; their scores are the teacher's, or 0 where the row gives none.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from lorank.data.bad_rows import collected
from lorank.data.collection import Collection, Split
from lorank.data.files import lines
from lorank.data.numbers import Negative, as_whole, check_negative, read_grade
from lorank.data.parquet import is_parquet, read_records, write_records
from lorank.errors import DataError, OnBad, UsageError, report_bad
from lorank.ranking.grades import as_grade
from lorank.ranking.types import Run
from lorank.reading import is_readable, plain_name

EXPECTED = (
    '{"query", "pos": [...], "neg": [...]}, {"query", "docs": [...], "labels": [...]} or '
    '{"query", "chosen", "rejected"}'
)


@dataclass(frozen=True)
class TrainingRow:
    """One query with its documents, their labels, a teacher's scores, user, weight, group and propensities, if any."""

    query: str
    documents: list[str]
    labels: list[int | float]
    scores: list[float] | None = None
    user: str | None = None
    weight: float | None = None
    group: str | None = None
    propensities: list[float] | None = None
    task: str | None = None
    preference: list[float] | None = None


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
    return TrainingRow(_text(row["query"], "query"), pos + neg, [*[1] * len(pos), *[0] * len(neg)], scores)


def _read_labelled(row: dict[str, Any]) -> TrainingRow:
    documents = _texts(row, "docs")
    if not documents:
        raise _RowError("'docs' is empty")
    labels = _numbers(row, "labels", len(documents))
    return TrainingRow(_text(row["query"], "query"), documents, [as_whole(label) for label in labels])


def _pair(row: dict[str, Any]) -> TrainingRow:
    documents = [_text(row.get(key), key) for key in ("chosen", "rejected")]
    return TrainingRow(_text(row["query"], "query"), documents, [1, 0])


def _with_user_and_weight(record: dict[str, Any], row: TrainingRow) -> TrainingRow:
    user, weight, group = record.get("user"), record.get("weight"), record.get("group")
    if user is not None:
        _text(user, "user")
    if group is not None:
        _text(group, "group")
    propensities = None
    if "propensities" in record:
        propensities = _numbers(record, "propensities", len(row.documents))
        if wrong := [each for each in propensities if not 0 < each <= 1]:
            raise _RowError(f"'propensities' holds {wrong[0]}, which is not above 0 and at most 1")
    number = None if isinstance(weight, bool) else as_grade(weight)
    if weight is not None and (number is None or number < 0):
        raise _RowError(f"the weight {str(weight)[:60]} is not a number from 0 up")
    weighted = replace(row, user=user, weight=None if number is None else float(number))
    return replace(weighted, group=group, propensities=propensities, task=_task(record), preference=_preference(record))


def _task(record: dict[str, Any]) -> str | None:
    value = record.get("task")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _RowError(f"the task {str(value)[:60]} is neither a text nor a whole number")
    return _text(str(value), "task")


def _preference(record: dict[str, Any]) -> list[float] | None:
    values = record.get("preference")
    if values is None:
        return None
    numbers = _numbers(record, "preference", len(values) if isinstance(values, list) else 0)
    if not numbers or min(numbers) < 0 or abs(sum(numbers) - 1) > 1e-3:
        raise _RowError(f"the preference {str(values)[:60]} is not a list of numbers from 0 up that sum to 1")
    return numbers


LAYOUTS: dict[str, Callable[[dict[str, Any]], TrainingRow]] = {
    "pos": _positives_and_negatives,
    "docs": _read_labelled,
    "chosen": _pair,
}


def training_rows(
    path: str | Path, *, negative: Negative = "error", on_bad: OnBad | None = None
) -> Iterator[tuple[int, TrainingRow]]:
    """Yield (line, row) of a training file; ``negative`` says what a label below 0 is (:mod:`lorank.data.numbers`).

    Raises DataError with file and line for a row of none of the layouts, an empty text, labels or scores that are no
    finite numbers or not one a document, and a document that a row lists twice; ``on_bad`` gets them where it is given.
    """
    check_negative(negative)
    for line, record in read_records(path, EXPECTED, on_bad):
        try:
            row = read_row(path, line, record, negative)
        except DataError as error:
            report_bad(error, record, on_bad)
            continue
        yield line, row


def read_row(path: str | Path, line: int, record: dict[str, Any], negative: Negative = "error") -> TrainingRow:
    """Return what one record says.

    Args:
        path: The file that the record comes from, which an error names.
        line: The line of the record, counted from 1.
        record: The fields of the row.
        negative: What a label below 0 is (:mod:`lorank.data.numbers`).

    Raises:
        DataError: With file and line, as ``training_rows`` raises it.
    """
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
    return replace(row, labels=labels)  # type: ignore[arg-type]


def is_training_file(path: str | Path) -> bool:
    """Return whether the first row of the file looks like a training row."""
    path = Path(path)
    if not is_parquet(path):
        named = plain_name(path).endswith((".jsonl", ".json", ".ndjson"))
        if not is_readable(path) or (path.is_file() and not named) or not _begins_with_a_brace(path):
            return False
    _, first = next(read_records(path, EXPECTED, lambda error, row: None), (0, {}))
    return "query" in first and any(key in first for key in LAYOUTS)


def _begins_with_a_brace(path: Path) -> bool:
    return next((text.lstrip()[0] for _, text in lines(path, lambda error, row: None)), "") == "{"


def read_rows(
    path: str | Path,
    name: str | None = None,
    *,
    split: str = "train",
    negative: Negative = "error",
    on_bad: OnBad | None = None,
) -> Collection:
    """Read a training file as a collection with one split.

    Query ids are ``q<line>``, document ids ``d1``, ``d2``, ... in order of first appearance.

    Args:
        path: The file, JSON lines or Parquet.
        name: The collection's name, the file's by default.
        split: The name of the split.
        negative: What a label below 0 is (:mod:`lorank.data.numbers`).
        on_bad: What is called with each bad row, which is left out.

    Raises:
        DataError: with a report of all bad rows where ``on_bad`` is None, and for a file without rows.
    """
    path = Path(path)
    with collected(on_bad) as on_bad:
        rows = list(training_rows(path, negative=negative, on_bad=on_bad))
        if any(row.user is not None for _, row in rows):
            rows = [(line, row) for line, row in rows if _has_user(path, line, row, on_bad)]
    if not rows:
        raise DataError(path, None, "the file holds no rows", f"a row is {EXPECTED}")
    stem = plain_name(path).rpartition(".")[0] or path.name
    return collection_of_rows(rows, name or stem, split)


def _has_user(path: Path, line: int, row: TrainingRow, on_bad: OnBad) -> bool:
    if row.user is None:
        problem = 'the row has no "user", and others have one'
        report_bad(DataError(path, line, problem, "give every row its user"), row.query, on_bad)
    return row.user is not None


def collection_of_rows(rows: Iterable[tuple[int, TrainingRow]], name: str, split: str = "train") -> Collection:
    """Return the collection of (line, row), one query per row and one document per text."""
    documents: dict[str, str] = {}
    queries, qrels, candidates = {}, {}, {}
    users: dict[str, str] = {}
    weights: dict[str, float] = {}
    groups: dict[str, str] = {}
    propensities: Run = {}
    tasks: dict[str, str] = {}
    preferences: dict[str, list[float]] = {}
    for line, row in rows:
        query = f"q{line}"
        ids = [documents.setdefault(text, f"d{len(documents) + 1}") for text in row.documents]
        queries[query] = row.query
        qrels[query] = {d: label for d, label in zip(ids, row.labels, strict=True) if label is not None}
        candidates[query] = dict(zip(ids, map(float, row.scores or [0] * len(ids))))
        if row.weight is not None:
            weights[query] = row.weight
        if row.task is not None:
            tasks[query] = row.task
        if row.preference is not None:
            preferences[query] = row.preference
        if row.user is not None:
            users[query] = row.user
        if row.group is not None:
            groups[query] = row.group
        if row.propensities is not None:
            propensities[query] = dict(zip(ids, row.propensities, strict=True))
    made = Split(
        split,
        queries,
        qrels,
        candidates,
        users or None,
        weights or None,
        groups or None,
        propensities or None,
        tasks or None,
        preferences or None,
    )
    return Collection(name, list(documents.values()), list(documents), {split: made})


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
            row | _of_query(chosen, query) | (_propensities_of(collection, chosen, query) if layout == "labels" else {})
            for query, text in chosen.queries.items()
            for row in write(text, *_documents_of(collection, chosen, query), scored)
        ),
        path,
    )


def _of_query(split: Split, query: str) -> dict[str, Any]:
    said = {
        "user": (split.users or {}).get(query),
        "weight": (split.weights or {}).get(query),
        "group": (split.groups or {}).get(query),
        "task": (split.tasks or {}).get(query),
        "preference": (split.preferences or {}).get(query),
    }
    return {key: value for key, value in said.items() if value is not None}


def _propensities_of(collection: Collection, split: Split, query: str) -> dict[str, Any]:
    """Return the propensities of a query's list in its order; nothing where a document of the list has none."""
    row = (split.propensities or {}).get(query, {})
    candidates = (split.candidates or {}).get(query, {})
    ids = [*candidates, *(document for document in split.qrels.get(query, {}) if document not in candidates)]
    return {"propensities": [row[d] for d in ids]} if row and all(d in row for d in ids) else {}
