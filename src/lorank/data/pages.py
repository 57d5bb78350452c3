"""Runs and judgments of passages as those of their pages: a page has the largest value that any of its passages has."""

from collections.abc import Mapping
from pathlib import Path

from lorank.data.files import lines, writing
from lorank.errors import DataError
from lorank.ranking.types import Run

FILE = "pages.tsv"
_LAYOUT = "a row is: passage-id<TAB>page-id"


def rank_pages(run: Mapping[str, Mapping[str, float]], pages: Mapping[str, str]) -> Run:
    """Return a run, or judgments, by page: each page has the largest value of its passages (MaxP).

    A document without a page stands for itself.

    >>> rank_pages({"q": {"a#1": 0.5, "a#2": 2.0, "b": 1.0}}, {"a#1": "a", "a#2": "a"})
    {'q': {'a': 2.0, 'b': 1.0}}
    """
    ranked: Run = {}
    for query, row in run.items():
        best = ranked.setdefault(query, {})
        for document, value in row.items():
            page = pages.get(document, document)
            best[page] = max(value, best.get(page, value))
    return ranked


def read_pages(path: str | Path) -> dict[str, str]:
    """Read a map {passage id: page id}, a file or the folder that holds it; raise DataError for other rows."""
    path = Path(path) / FILE if Path(path).is_dir() else Path(path)
    pages: dict[str, str] = {}
    for line, text in lines(path):
        fields = text.split("\t")
        if len(fields) != 2 or not all(field.strip() for field in fields):
            raise DataError(path, line, f"{len(fields)} columns", _LAYOUT)
        pages[fields[0].strip()] = fields[1].strip()
    return pages


def write_pages(pages: Mapping[str, str], path: str | Path) -> None:
    """Write a map {passage id: page id}, all or nothing."""
    with writing(path) as file:
        for passage, page in pages.items():
            file.write(f"{passage}\t{page}\n")
