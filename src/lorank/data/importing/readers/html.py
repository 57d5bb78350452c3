"""HTML pages: title, headings and main text; scripts, styles, menus and footers are left out.

Where a page has ``main`` or ``article``, only what stands in these is read; where nothing is left so, all of the body
is.
The encoding is that of the byte order mark or the page's own ``charset``, else UTF-8.
"""

import re
from collections.abc import Iterator
from html.parser import HTMLParser

from lorank.data.importing.found import Found, Page, Place, Section
from lorank.data.importing.registry import Options, Source, reader
from lorank.errors import DataError, OnBad, report_bad
from lorank.reading import reading

_SILENT = frozenset(
    {"script", "style", "noscript", "template", "svg", "math", "iframe", "object", "select", "textarea"}
)
_AROUND = frozenset({"nav", "footer", "aside", "form", "header"})
_MAIN = frozenset({"main", "article"})
_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_INLINE = frozenset(
    [
        "a",
        "abbr",
        "acronym",
        "b",
        "bdi",
        "bdo",
        "big",
        "cite",
        "code",
        "data",
        "del",
        "dfn",
        "em",
        "font",
        "i",
        "img",
        "ins",
        "kbd",
        "label",
        "mark",
        "q",
        "s",
        "samp",
        "small",
        "span",
        "strike",
        "strong",
        "sub",
        "sup",
        "time",
        "tt",
        "u",
        "var",
        "wbr",
    ]
)
_VOID = frozenset(
    ["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"]
)
_CHARSET = re.compile(rb"""<meta[^>]{0,200}charset\s*=\s*["']?\s*([\w-]+)""", re.IGNORECASE)


class PageParser(HTMLParser):
    """Collects the title and the sections of a page; ``around`` keeps menus and footers, ``main`` only main text."""

    def __init__(self, *, around: bool, main: bool) -> None:
        super().__init__(convert_charrefs=True)
        self.left_out = _SILENT if around else _SILENT | _AROUND
        self.main = main
        self.title = ""
        self.canonical: str | None = None
        self.sections: list[Section] = [Section("", [])]
        self.has_main = False
        self._skipped: list[str] = []
        self._inside = 0
        self._preformatted = 0
        self._heading: str | None = None
        self._in_title = False
        self._text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note where an element begins."""
        given = dict(attrs)
        if tag == "link" and (given.get("rel") or "").lower() == "canonical":
            self.canonical = given.get("href")
        if tag in self.left_out and not (tag == "header" and self._inside):
            self._skipped.append(tag)
        if self._skipped:
            return
        if tag in _MAIN or given.get("role") == "main":
            self.has_main = True
            self._flush()
            self._inside += tag in _MAIN
        elif tag == "title" and not self.title:
            self._in_title = True
        elif tag in _HEADINGS:
            self._flush()
            self._heading = tag
        elif tag == "br":
            self._text.append("\n")
        elif tag in ("td", "th"):
            self._text.append(" ")
        elif tag not in _INLINE:
            self._flush()
        self._preformatted += tag == "pre"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element without content."""
        if tag in _VOID or tag not in self.left_out:
            self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        """Note where an element ends."""
        if self._skipped:
            if tag in self._skipped:
                del self._skipped[self._skipped.index(tag) :]
            return
        if tag == "title":
            self._in_title = False
        elif tag in _HEADINGS and self._heading:
            heading = " ".join("".join(self._text).split())
            self._text, self._heading = [], None
            if heading and self._reads():
                self.sections.append(Section(heading, []))
        elif tag in _MAIN:
            self._flush()
            self._inside = max(0, self._inside - 1)
        elif tag not in _INLINE and tag not in ("td", "th"):
            self._flush()
        if tag == "pre":
            self._preformatted = max(0, self._preformatted - 1)

    def handle_data(self, data: str) -> None:
        """Take text in."""
        if self._in_title:
            self.title += data
        elif not self._skipped:
            self._text.append(data)

    def close(self) -> None:
        """Take in what stands at the end."""
        super().close()
        self._flush()

    def _reads(self) -> bool:
        return self._inside > 0 or not self.main

    def _flush(self) -> None:
        text = "".join(self._text)
        self._text = []
        if self._preformatted:
            block = "\n".join(line.rstrip() for line in text.strip("\n").splitlines())
        else:
            block = " ".join(text.split())
        if block.strip() and self._reads():
            self.sections[-1].blocks.append(block)


def parse_page(text: str) -> tuple[str, list[Section], str | None]:
    """Return title, sections and the canonical address of a page.

    >>> parse_page("<title>Lists</title><nav>Home</nav><h1>Sorting</h1><p>Use <b>sorted</b>().<script>x</script>")
    ('Lists', [Section(heading='Sorting', blocks=['Use sorted().'])], None)
    """
    parser = PageParser(around=False, main=False)
    for around, main in ((False, True), (False, False), (True, False)):
        if main and not re.search(r"<(main|article)\b", text, re.IGNORECASE):
            continue
        parser = PageParser(around=around, main=main)
        parser.feed(text)
        parser.close()
        if any(section.blocks for section in parser.sections):
            break
    sections = [section for section in parser.sections if section.heading or section.blocks]
    title = " ".join(parser.title.split()) or next((s.heading for s in sections if s.heading), "")
    return title, sections, parser.canonical


def decode_page(raw: bytes) -> str:
    """Return the text of a page in its own encoding; raise LookupError or UnicodeDecodeError where that fails."""
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if raw.startswith(mark):
            return raw.decode(encoding)
    declared = _CHARSET.search(raw[:4096])
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        if declared is None:
            raise
        return raw.decode(declared.group(1).decode("ascii"))


@reader("html", "HTML pages", endings=(".html", ".htm", ".xhtml"))
def read_html(source: Source, options: Options, on_bad: OnBad) -> Iterator[Found]:
    """Yield the page of a file."""
    raw = b""
    try:
        if source.head.startswith((b"\xff\xfe", b"\xfe\xff")):
            raw = source.path.read_bytes()
        else:
            with reading(source.path) as file:
                raw = file.read()
        text = decode_page(raw)
    except (LookupError, UnicodeDecodeError) as error:
        remedy = "say the encoding in the page: <meta charset=...>, or convert it to UTF-8"
        report_bad(DataError(source.path, 1, f"the page cannot be decoded ({error})"[:200], remedy), "", on_bad)
        return
    title, sections, canonical = parse_page(text)
    if not any(section.blocks for section in sections):
        report_bad(DataError(source.path, 1, "the page holds no text", "leave it out"), "", on_bad)
        return
    yield Page(Place(source.path, 1), source.id, title, sections, () if canonical is None else (canonical,))
