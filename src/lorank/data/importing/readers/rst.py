"""reStructuredText: titles by their underlines, text without roles and directives' marks; comments are left out."""

import re
from collections.abc import Iterator

from lorank.data.importing.found import Found, Section
from lorank.data.importing.readers.plain_text import make_page, paragraphs
from lorank.data.importing.registry import Options, Source, reader
from lorank.errors import OnBad
from lorank.reading import all_lines

_LINE = re.compile(r"([=\-`:'\"~^_*+#<>.])\1*\s*")
_DIRECTIVE = re.compile(r"\s*\.\. ([\w:-]+)::\s*(.*)")
_SILENT = ("image", "figure", "toctree", "include", "index", "raw", "contents", "literalinclude", "meta", "highlight")
_MARKS = (
    (re.compile(r":[\w:.+-]+:`([^`<]*?)\s*<[^`>]*>`"), r"\1"),
    (re.compile(r":[\w:.+-]+:`[!~]?([^`]*)`"), r"\1"),
    (re.compile(r"``([^`]+)``"), r"\1"),
    (re.compile(r"`([^`<]*?)\s*<[^`>]*>`__?"), r"\1"),
    (re.compile(r"`([^`]+)`_{0,2}"), r"\1"),
    (re.compile(r"\*\*([^*]+)\*\*"), r"\1"),
    (re.compile(r"(?<![\w*])\*([^*\s][^*]*)\*(?![\w*])"), r"\1"),
)


def without_marks(line: str) -> str:
    """Return a line without the marks of roles, links and emphasis.

    >>> without_marks("See :ref:`sorting <howto>` and ``sorted()`` in *place*.")
    'See sorting and sorted() in place.'
    """
    for pattern, kept in _MARKS:
        line = pattern.sub(kept, line)
    return re.sub(r"::$", ":", line)


def parse_rst(lines: list[str]) -> tuple[str, list[Section]]:
    """Return title and sections of a reStructuredText."""
    sections, held = [Section("", [])], list[str]()
    skipped: int | None = None
    i = 0
    while i < len(lines):
        line = lines[i]
        indent = len(line) - len(line.lstrip())
        if skipped is not None and (not line.strip() or indent > skipped):
            i += 1
            continue
        skipped = None
        below = lines[i + 1] if i + 1 < len(lines) else ""
        if _is_title(line, below):
            sections[-1].blocks.extend(paragraphs(held))
            held.clear()
            sections.append(Section(without_marks(line.strip()), []))
            i += 2
            continue
        match = _DIRECTIVE.match(line)
        if match:
            skipped = indent if match.group(1) in _SILENT else None
            held += [] if skipped is not None else ["", without_marks(match.group(2)), ""]
        elif line.lstrip().startswith(".. ") or line.strip() == "..":
            skipped = indent
        elif not re.fullmatch(r"\s*:[\w -]+:.*", line) and not (_LINE.fullmatch(line) and len(line.strip()) > 2):
            held.append(without_marks(re.sub(r"^\s*([-*+]|#\.|\d+\.)\s+", "", line)))
        i += 1
    sections[-1].blocks.extend(paragraphs(held))
    return next((s.heading for s in sections if s.heading), ""), sections


def _is_title(line: str, below: str) -> bool:
    words = line.strip()
    return (
        bool(words) and not _LINE.fullmatch(line) and bool(_LINE.fullmatch(below)) and len(below.strip()) >= len(words)
    )


@reader("rst", "reStructuredText files", endings=(".rst", ".rest"))
def read_rst(source: Source, options: Options, on_bad: OnBad) -> Iterator[Found]:
    """Yield the page of a file."""
    title, sections = parse_rst([text for _, text in all_lines(source.path, on_bad)])
    yield from make_page(source, title, sections, on_bad)
