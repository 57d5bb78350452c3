"""What readers find in a source: pages, documents, queries, judgments and rows, each with its place."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Place:
    """A file and a line or row in it, from 1."""

    path: Path
    line: int


@dataclass(frozen=True)
class Section:
    """A heading, empty where there is none, and the blocks of text under it."""

    heading: str
    blocks: list[str]


@dataclass(frozen=True)
class Page:
    """A page of a site or a manual, to be cut into passages; ``names`` are other names that clicks may use."""

    place: Place
    id: str
    title: str
    sections: list[Section]
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Text:
    """A document that stands alone; without an id its text is what it is known by."""

    place: Place
    id: str | None
    title: str
    text: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked:
    """What is said of a query beside its text."""

    user: str | None = None
    weight: float | None = None
    group: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class Query:
    """A query with its id."""

    place: Place
    id: str
    text: str
    about: Asked = field(default_factory=Asked)


@dataclass(frozen=True)
class Judged:
    """A query and a document with a label; each is an id or a text, as ``query_is`` and ``document_is`` say.

    They are "id", "text", or "either" where only the other sources can tell.
    """

    place: Place
    query: str
    document: str
    label: float
    query_is: str = "id"
    document_is: str = "id"
    score: float | None = None
    propensity: float | None = None
    about: Asked = field(default_factory=Asked)


@dataclass(frozen=True)
class Row:
    """A query's text with a list of documents' texts, their labels, and where known a teacher's scores and so on."""

    place: Place
    query: str
    documents: list[str]
    labels: list[float]
    scores: list[float] | None = None
    propensities: list[float] | None = None
    about: Asked = field(default_factory=Asked)


Found = Page | Text | Query | Judged | Row


class RowError(ValueError):
    """What is wrong with a row, and what to do; whoever reads it adds file and line."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem)
        self.remedy = remedy


Record = dict[str, Any]
