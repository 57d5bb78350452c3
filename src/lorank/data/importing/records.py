"""Records, from whatever file, as documents, queries, judgments or rows: chosen by the roles of their columns.

triplet     a query with positive and negative texts: FlagEmbedding's pos and neg, sentence-transformers' anchor,
            positive and negative_1 to negative_n, Cohere's relevant_passages and hard_negatives, prompt, chosen and
            rejected
list        a query with documents and as many labels
log         a query with the ids of what was shown, clicks and propensities
judged      a query and a document, each by id or text, with a label, score or click; without one it is relevant
queries     ids and texts of queries
documents   ids, titles and texts of documents
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lorank.data.importing.columns import ROLES, roles_of
from lorank.data.importing.found import Asked, Found, Judged, Place, Query, Record, Row, RowError, Text
from lorank.data.importing.registry import Options, Source
from lorank.data.importing.values import is_chat, is_missing, read_id, read_list, read_number, read_numbers, read_text
from lorank.data.letor import split_of_name
from lorank.data.numbers import read_grade
from lorank.errors import DataError, OnBad, report_bad

QUERY_WORDS = ("quer", "topic", "question")
DOCUMENT_WORDS = ("corpus", "collection", "docs", "document", "passage")
REMEDY = "mend the row, or leave such rows out with --skip-bad"
_ASSISTANT = "\n\nAssistant:"


class Fields:
    """One record, read by the roles of its columns."""

    def __init__(self, record: Record, roles: dict[str, list[str]], place: Place, options: Options) -> None:
        self.record, self.roles, self.place, self.options = record, roles, place, options

    def get(self, role: str) -> Any:
        """Return the value of a role's column, None where it says nothing."""
        value = self.record.get(self.roles[role][0]) if role in self.roles else None
        return None if is_missing(value) else value

    def all(self, role: str) -> list[Any]:
        """Return the values of all of a role's columns that say something, lists opened."""
        return [each for column in self.roles.get(role, ()) for each in read_list(self.record.get(column))]

    def label(self, value: Any, what: str = "label") -> float | None:
        """Return a label as ``negative`` says, None for one to leave out."""
        number = read_number(value, what)
        try:
            return read_grade(self.place.path, self.place.line, number, self.options.negative, what)
        except DataError as error:
            raise RowError(error.problem, error.remedy) from error

    def about(self) -> Asked:
        """Return what is said of the query beside its text."""
        user, group = (None if (v := self.get(role)) is None else read_id(v, role) for role in ("user", "group"))
        weight = self.get("weight")
        number = None if weight is None else read_number(weight, "weight")
        if number is not None and number < 0:
            raise RowError(f"the weight {number} is below 0")
        split = self.get("split")
        return Asked(user, number, group, None if split is None else split_of_name(str(split)) or str(split))

    def propensity(self) -> float | None:
        """Return the propensity, above 0 and at most 1."""
        value = self.get("propensity")
        return None if value is None else check_propensity(read_number(value, "propensity"))


def check_propensity(number: float) -> float:
    """Return a propensity; raise RowError for one that is not above 0 and at most 1."""
    if not 0 < number <= 1:
        raise RowError(f"the propensity {number} is not above 0 and at most 1")
    return number


def _triplet(fields: Fields) -> Iterator[Found]:
    positives, negatives = fields.all("positive"), fields.all("negative")
    chosen = fields.record.get(fields.roles["positive"][0])
    rejected = fields.record.get(fields.roles["negative"][0]) if "negative" in fields.roles else None
    query = fields.get("query")
    if is_chat(chosen):
        query, positives, negatives = _conversation(query, chosen, rejected)
    elif query is None and isinstance(chosen, str) and isinstance(rejected, str):
        query, positives, negatives = _dialogue(chosen, rejected)
    if not positives:
        raise RowError("there is no positive document")
    texts = [read_text(each, "document") for each in (*positives, *negatives)]
    scores = None
    if "positive_scores" in fields.roles or "negative_scores" in fields.roles:
        scores = [
            *read_numbers(fields.get("positive_scores"), "positive scores", len(positives)),
            *read_numbers(fields.get("negative_scores"), "negative scores", len(negatives)),
        ]
    labels = [1.0] * len(positives) + [0.0] * len(negatives)
    yield _row(fields, read_text(query, "query"), texts, labels, scores)


def _row(
    fields: Fields, query: str, texts: list[str], labels: Sequence[float | None], scores: list[float] | None
) -> Row:
    if len(set(texts)) < len(texts):
        twice = next(text for i, text in enumerate(texts) if text in texts[:i])
        raise RowError(f"the document {twice[:60]!r} is listed twice")
    propensities = None
    if "propensity" in fields.roles and fields.get("propensity") is not None:
        numbers = read_numbers(fields.get("propensity"), "propensities", len(texts))
        propensities = [check_propensity(number) for number in numbers]
    kept = [i for i, label in enumerate(labels) if label is not None]
    return Row(
        fields.place,
        query,
        [texts[i] for i in kept],
        [label for label in labels if label is not None],
        None if scores is None else [scores[i] for i in kept],
        None if propensities is None else [propensities[i] for i in kept],
        fields.about(),
    )


def _conversation(query: Any, chosen: Any, rejected: Any) -> tuple[Any, list[Any], list[Any]]:
    """Return prompt, chosen and rejected answers of chats: the last message is the answer."""
    prompt = query if query is not None else chosen[:-1]
    last = [each[-1]["content"] if is_chat(each) else each for each in (chosen, rejected)]
    return prompt, [last[0]], [] if rejected is None else [last[1]]


def _dialogue(chosen: str, rejected: str) -> tuple[str | None, list[str], list[str]]:
    """Part "Human: ... Assistant: ..." at its last answer."""
    prompt, _, good = chosen.rpartition(_ASSISTANT)
    other, _, bad = rejected.rpartition(_ASSISTANT)
    if not prompt or not other:
        raise RowError("there is no prompt")
    return prompt, [good], [bad]


def _list(fields: Fields) -> Iterator[Found]:
    texts = [read_text(each, "document") for each in fields.all("documents")]
    if not texts:
        raise RowError("there are no documents")
    values = fields.all("labels")
    if len(values) != len(texts):
        raise RowError(f"there are {len(values)} labels for {len(texts)} documents")
    scores = fields.get("score")
    read = None if scores is None else read_numbers(scores, "scores", len(texts))
    yield _row(fields, read_text(fields.get("query"), "query"), texts, [fields.label(v) for v in values], read)


def _log(fields: Fields) -> Iterator[Found]:
    documents = [read_id(each, "document id") for each in fields.all("document_ids")]
    labels = [fields.label(each, "click") for each in fields.all("label")]
    if len(labels) != len(documents):
        raise RowError(f"there are {len(labels)} clicks for {len(documents)} documents")
    propensities: list[float | None] = [None] * len(documents)
    if fields.get("propensity") is not None:
        numbers = read_numbers(fields.get("propensity"), "propensities", len(documents))
        propensities = [check_propensity(number) for number in numbers]
    query, kind, found = _query_of(fields)
    yield from found
    for document, label, propensity in zip(documents, labels, propensities, strict=True):
        if label is not None:
            yield Judged(fields.place, query, document, label, kind, "id", None, propensity, fields.about())


def _query_of(fields: Fields) -> tuple[str, str, list[Found]]:
    """Return the query of a judgment, whether that is its id, and the query itself where id and text are there."""
    name, text = fields.get("query_id"), fields.get("query")
    if name is None:
        return read_text(text, "query"), "either", []
    name = read_id(name, "query id")
    if text is None:
        return name, "id", []
    return name, "id", [Query(fields.place, name, read_text(text, "query"), fields.about())]


def _judged(fields: Fields) -> Iterator[Found]:
    query, query_is, found = _query_of(fields)
    name, text = fields.get("document_id"), fields.get("document")
    if name is not None:
        document, document_is = read_id(name, "document id"), "id"
        if text is not None:
            title = fields.get("title")
            found.append(Text(fields.place, document, "" if title is None else str(title), read_text(text, "document")))
    else:
        title = fields.get("title")
        document, document_is = read_text(text, "document"), "either"
        if title is not None:
            document, document_is = f"{title}\n{document}", "text"
    given = fields.get("label")
    score = fields.get("score")
    says = next((role for role in ("label", "score") if role in fields.roles), None)
    if says is not None and given is None and (says == "label" or score is None):
        raise RowError(f"the {says} is empty")
    label = 1.0 if says is None else fields.label(given if says == "label" else score, says)
    teacher = read_number(score, "score") if says == "label" and score is not None else None
    yield from found
    if label is not None:
        about, propensity = fields.about(), fields.propensity()
        yield Judged(fields.place, query, document, label, query_is, document_is, teacher, propensity, about)


def _queries(fields: Fields) -> Iterator[Found]:
    name = fields.get("query_id") if fields.get("query_id") is not None else fields.get("id")
    text = fields.get("query") if "query" in fields.roles else fields.get("document")
    if text is None and "title" in fields.roles:
        text = fields.get("title")
    yield Query(fields.place, read_id(name, "query id"), read_text(text, "query"), _about_of_query(fields))


def _about_of_query(fields: Fields) -> Asked:
    metadata = fields.record.get("metadata")
    if not isinstance(metadata, dict):
        return fields.about()
    return Fields(metadata, roles_of(metadata, {}), fields.place, fields.options).about()


def _documents(fields: Fields) -> Iterator[Found]:
    name = fields.get("document_id") if fields.get("document_id") is not None else fields.get("id")
    title, text = fields.get("title"), fields.get("document")
    if text is None and title is None:
        raise RowError("the document is empty")
    names = [fields.record.get(column) for column in fields.record if str(column).lower() in ("url", "uri", "link")]
    yield Text(
        fields.place,
        None if name is None else read_id(name, "document id"),
        "" if title is None else read_text(title, "title"),
        "" if text is None else read_text(text, "document"),
        tuple(str(each) for each in names if not is_missing(each)),
    )


LAYOUTS: dict[str, Callable[[Fields], Iterator[Found]]] = {
    "triplet": _triplet,
    "list": _list,
    "log": _log,
    "judged": _judged,
    "queries": _queries,
    "documents": _documents,
}


def layout_of(roles: Iterable[str], source: Source) -> str | None:
    """Return the name of the layout of records with these roles, None where something is missing."""
    there = set(roles)
    query, document = there & {"query", "query_id"}, there & {"document", "document_id"}
    asked = source.kind == "queries" or (source.kind is None and says_queries(source.words) is True)
    if source.kind not in ("documents", "queries"):
        if "positive" in there and ("query" in there or "negative" in there):
            return "triplet"
        if {"documents", "labels", "query"} <= there:
            return "list"
        if query and {"document_ids", "label"} <= there:
            return "log"
        only_text = there & {"document", "document_id", "label", "score", "query"} == {"document"}
        if query and document and not only_text:
            return "judged"
    if there & {"query_id", "id"} and ("query" in there or ("query_id" in there and "document" in there)):
        return "queries"
    if asked and there & {"query_id", "id"} and there & {"document", "title"}:
        return "queries"
    return "documents" if there & {"document", "title"} and not query and source.kind in (None, "documents") else None


def says_queries(name: str) -> bool | None:
    """Return whether a file's name says queries, or documents; the first word that does decides, None where none does.

    >>> [says_queries(name) for name in ("topics.dl19-passage.txt", "collection.tsv", "a.tsv")]
    [True, False, None]
    """
    found = [(name.find(w), asks) for words, asks in ((QUERY_WORDS, True), (DOCUMENT_WORDS, False)) for w in words]
    return min(((place, asks) for place, asks in found if place >= 0), default=(0, None))[1]


def read_records(
    records: Iterable[tuple[int, Record]], source: Source, options: Options, on_bad: OnBad
) -> Iterator[Found]:
    """Yield what the records of one file say.

    Args:
        records: The number of the line, counted from 1, and the record of each row.
        source: The file, which errors name.
        options: How sources are read: mapped columns, and what a label below 0 is.
        on_bad: It receives the error of a row that says nothing plain, and its record.

    Raises:
        DataError: If the first record has none of the layouts: with its fields, what is missing, and the command that
            maps columns.
    """
    layouts: dict[tuple[str, ...], tuple[dict[str, list[str]], str | None]] = {}
    for line, record in records:
        keys = tuple(record)
        if keys not in layouts:
            roles = roles_of(keys, options.columns)
            layouts[keys] = roles, layout_of(roles, source)
            if layouts[keys][1] is None and len(layouts) == 1:
                raise unknown_fields(source.path, line, record, roles)
        roles, layout = layouts[keys]
        try:
            read = LAYOUTS[_layout_like_first(layout, roles, next(iter(layouts.values())), keys)]
            found = list(read(Fields(record, roles, Place(source.path, line), options)))
        except RowError as error:
            report_bad(DataError(source.path, line, str(error), error.remedy or REMEDY), record, on_bad)
            continue
        yield from found


def _layout_like_first(
    layout: str | None,
    roles: dict[str, list[str]],
    first: tuple[dict[str, list[str]], str | None],
    keys: tuple[str, ...],
) -> str:
    """Return the layout; raise RowError where there is none, and for a record without the label that the first has."""
    if layout is None:
        raise RowError(f"the fields are {', '.join(map(str, keys))[:100]}")
    if layout == first[1] == "judged" and (missing := {"label", "score"} & set(first[0]) - set(roles)):
        raise RowError(f"there is no {min(missing)}, and the first row has one")
    return layout


def unknown_fields(path: Path, line: int, record: Record, roles: dict[str, list[str]]) -> DataError:
    """Return the error for records in which a query, a document or both are missing.

    Args:
        path: The file.
        line: The line of the first record, which is not used.
        record: The first record, whose fields the error shows.
        roles: The fields that are known, by role.
    """
    shown = ", ".join(f"{key}={_cut(value)}" for key, value in record.items())[:400]
    missing = [
        f"a {role} (a column called {', '.join(ROLES[role][:4])}, {', '.join(ROLES[f'{role}_id'][:3])}, ...)"
        for role in ("query", "document")
        if not {role, f"{role}_id"} & set(roles)
    ]
    said = "; ".join(f"{role}: {', '.join(columns)}" for role, columns in roles.items())
    problem = f"the fields are {', '.join(map(str, record))[:200]} (first row: {shown})"
    problem += f", known among them {said}" if said else ", none of which is known"
    if missing:
        problem += f"; missing is {' and '.join(missing)}"
    return DataError(
        path,
        None,
        problem,
        f"say which is which: lorank import {path} --columns query=COLUMN,document=COLUMN,label=COLUMN --out DIR",
    )


def _cut(value: Any) -> str:
    text = str(value)
    return repr(text if len(text) <= 40 else f"{text[:37]}...")
