"""PDF files, through pypdf (the extra ``lorank[pdf]``): one section per page, without running heads and page numbers.

A line that stands, numbers aside, on at least four fifths of a document's pages (of four and more) is a running head.
"""

import importlib
import logging
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from lorank.data.importing.found import Found, Section
from lorank.data.importing.readers.plain_text import make_page, paragraphs
from lorank.data.importing.registry import Options, Source, reader
from lorank.errors import DataError, OnBad, UsageError, report_bad

_SHARE = 0.8
_LEADERS = re.compile(r"(\s*\.){4,}")
_FEWEST = 4


def _pypdf() -> Any:
    try:
        return importlib.import_module("pypdf")
    except ImportError as error:
        raise UsageError("PDF files need pypdf: pip install 'lorank[pdf]'") from error


def _text(page: Any) -> str:
    """Return a page's text; halves of characters, as broken fonts give them, are replaced."""
    return str(page.extract_text() or "").encode("utf-8", "replace").decode("utf-8")


def without_running_heads(pages: list[list[str]]) -> list[list[str]]:
    """Return the lines of pages without those that stand on most of them, whatever numbers they hold.

    >>> without_running_heads([["Manual", "one", "- 1 -"], ["Manual", "two", "- 2 -"], ["Manual", "3", "- 3 -"]] * 2)[0]
    ['one']
    """
    if len(pages) < _FEWEST:
        return pages
    seen = Counter(key for page in pages for key in {_plain(line) for line in page})
    return [[line for line in page if seen[_plain(line)] < _SHARE * len(pages)] for page in pages]


def _plain(line: str) -> str:
    return re.sub(r"\d+", "#", " ".join(line.split()))


@reader("pdf", "PDF files", fits=lambda source: source.head.startswith(b"%PDF-") or source.ending == ".pdf", order=0)
def read_pdf(source: Source, options: Options, on_bad: OnBad) -> Iterator[Found]:
    """Yield the page of a file."""
    pypdf = _pypdf()
    logging.getLogger("pypdf").setLevel(logging.ERROR)
    try:
        document = pypdf.PdfReader(source.path)
        title = str((document.metadata or {}).get("/Title") or "")
        pages = [[_LEADERS.sub(" ", line) for line in _text(page).splitlines()] for page in document.pages]
    except (pypdf.errors.PyPdfError, OSError, ValueError, KeyError, TypeError, RecursionError, AttributeError) as error:
        problem = f"not a readable PDF ({type(error).__name__}: {str(error)[:100]})"
        report_bad(DataError(source.path, 1, problem, "save it again, without a password"), "", on_bad)
        return
    if pages and not any(line.strip() for page in pages for line in page):
        problem = "the PDF holds no text: scanned pictures?"
        report_bad(DataError(source.path, 1, problem, "run it through text recognition first"), "", on_bad)
        return
    sections = [Section("", paragraphs(lines)) for lines in without_running_heads(pages)]
    yield from make_page(source, title.strip(), sections, on_bad)
