"""Text files: paragraphs are parted by blank lines; the first line is the title where a blank line follows it."""

from collections.abc import Iterator

from lorank.data.importing.found import Found, Page, Place, Section
from lorank.data.importing.registry import Options, Source, reader
from lorank.errors import DataError, OnBad, report_bad
from lorank.reading import all_lines


def paragraphs(lines: list[str]) -> list[str]:
    """Return the blocks of lines that blank lines part, each joined by blanks.

    >>> paragraphs(["one", "two", "", "three"])
    ['one two', 'three']
    """
    blocks: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            blocks[-1].append(line.strip())
        elif blocks[-1]:
            blocks.append([])
    return [" ".join(block) for block in blocks if block]


def make_page(source: Source, title: str, sections: list[Section], on_bad: OnBad) -> Iterator[Page]:
    """Yield the page, or report a file without text.

    Args:
        source: The file.
        title: The page's title, empty where it has none.
        sections: The sections in order; those without heading and text are dropped.
        on_bad: It receives the error of a file without text.
    """
    kept = [section for section in sections if section.heading or section.blocks]
    if not any(section.blocks for section in kept):
        report_bad(DataError(source.path, 1, "the file holds no text", "leave it out"), "", on_bad)
        return
    yield Page(Place(source.path, 1), source.id, title, kept)


@reader("text", "text files", endings=(".txt", ".text"))
def read_text_file(source: Source, options: Options, on_bad: OnBad) -> Iterator[Found]:
    """Yield the page of a file."""
    lines = [text for _, text in all_lines(source.path, on_bad)]
    first = next((i for i, line in enumerate(lines) if line.strip()), 0)
    title = ""
    if len(lines) > first + 2 and not lines[first + 1].strip() and len(lines[first].split()) <= 12:
        title, lines = lines[first].strip(), lines[first + 1 :]
    yield from make_page(source, title, [Section("", paragraphs(lines))], on_bad)
