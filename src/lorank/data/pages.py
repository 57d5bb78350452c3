"""Runs and judgments of passages as those of their pages: a page has the largest value that any of its passages has."""

from collections.abc import Mapping
from pathlib import Path

from lorank.data.bad_rows import collected
from lorank.data.files import lines, writing
from lorank.errors import DataError, OnBad
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


def read_pages(path: str | Path, *, on_bad: OnBad | None = None) -> dict[str, str]:
    """Read a map {passage id: page id}, a file or the folder that holds it.

    Raises DataError with one report of all other rows (``on_bad`` is called with each, where given).
    """
    path = Path(path) / FILE if Path(path).is_dir() else Path(path)
    pages: dict[str, str] = {}
    with collected(on_bad) as on_bad:
        for line, text in lines(path, on_bad):
            fields = [field.strip() for field in text.split("\t")]
            if len(fields) != 2:
                on_bad(DataError(path, line, f"{len(fields)} columns", _LAYOUT), text)
            elif not all(fields):
                on_bad(DataError(path, line, "an empty column", _LAYOUT), text)
            elif pages.get(fields[0], fields[1]) != fields[1]:
                problem = f"the passage {fields[0]!r} is of {pages[fields[0]]!r} and of {fields[1]!r}"
                on_bad(DataError(path, line, problem, "keep one page per passage"), text)
            else:
                pages[fields[0]] = fields[1]
    return pages


def write_pages(pages: Mapping[str, str], path: str | Path) -> None:
    """Write a map {passage id: page id}, all or nothing."""
    with writing(path) as file:
        for passage, page in pages.items():
            file.write(f"{passage}\t{page}\n")
