"""Markdown: headings of both kinds, front matter's title, text without its marks; code blocks stay as they are."""

import re
from collections.abc import Iterator

from lorank.data.importing.found import Found, Section
from lorank.data.importing.readers.plain_text import make_page, paragraphs
from lorank.data.importing.registry import Options, Source, reader
from lorank.errors import OnBad
from lorank.reading import all_lines

_HEADING = re.compile(r" {0,3}(#{1,6})\s+(.*?)\s*#*\s*(\{[^}]*\})?$")
_FENCE = re.compile(r"\s*(```+|~~~+)")
_TITLE = re.compile(r"title:\s*[\"']?(.*?)[\"']?\s*$")
_MARKS = (
    (re.compile(r"<!--.*?-->|</?[a-zA-Z][^<>]*>"), ""),
    (re.compile(r"!\[([^\]]*)\]\([^)]*\)"), r"\1"),
    (re.compile(r"\[([^\]]*)\](\([^)]*\)|\[[^\]]*\])"), r"\1"),
    (re.compile(r"(\*\*|__)(?=\S)(.+?)(?<=\S)\1"), r"\2"),
    (re.compile(r"(?<![\w*])\*(?=\S)([^*]+?)(?<=\S)\*(?![\w*])"), r"\1"),
    (re.compile(r"`+([^`]+)`+"), r"\1"),
)


def without_marks(line: str) -> str:
    """Return a line without links' addresses, emphasis and code marks.

    >>> without_marks("See [the **docs**](x.html) for `sorted`.")
    'See the docs for sorted.'
    """
    for pattern, kept in _MARKS:
        line = pattern.sub(kept, line)
    return re.sub(r"^\s*(>+\s?|[-*+]\s+|\d+[.)]\s+)", "", line)


def parse_markdown(lines: list[str]) -> tuple[str, list[Section]]:
    """Return title and sections of a Markdown text."""
    title = ""
    if lines and lines[0].strip() == "---":
        end = next((i for i, line in enumerate(lines[1:], 1) if line.strip() in ("---", "...")), 0)
        title = next((m.group(1) for line in lines[1:end] if (m := _TITLE.match(line.strip()))), "")
        lines = lines[end + 1 :]
    sections, held = [Section("", [])], list[str]()
    fence: list[str] | None = None

    def flush() -> None:
        sections[-1].blocks.extend(paragraphs(held))
        held.clear()

    for line in lines:
        if fence is not None:
            if _FENCE.match(line):
                sections[-1].blocks.append("\n".join(fence))
                fence = None
            else:
                fence.append(line)
        elif _FENCE.match(line):
            flush()
            fence = []
        elif match := _HEADING.match(line):
            flush()
            sections.append(Section(without_marks(match.group(2)), []))
        elif held and held[-1].strip() and re.fullmatch(r" {0,3}(=+|-{2,})\s*", line):
            heading = held.pop()
            flush()
            sections.append(Section(heading.strip(), []))
        elif re.fullmatch(r"\s*([-*_]\s*){3,}", line) or re.fullmatch(r"\s*\|?[\s:|-]+\|?\s*", line):
            held.append("")
        else:
            held.append(without_marks(line.replace("|", " ") if line.lstrip().startswith("|") else line))
    flush()
    if fence:
        sections[-1].blocks.append("\n".join(fence))
    kept = [Section(s.heading, [block for block in s.blocks if block.strip()]) for s in sections]
    return title or next((s.heading for s in kept if s.heading), ""), kept


@reader("markdown", "Markdown files", endings=(".md", ".markdown", ".mdown", ".mdx"))
def read_markdown(source: Source, options: Options, on_bad: OnBad) -> Iterator[Found]:
    """Yield the page of a file."""
    title, sections = parse_markdown([text for _, text in all_lines(source.path, on_bad)])
    yield from make_page(source, title, sections, on_bad)
