"""The documents of `lorank rank`: JSON lines, text, Markdown sections, CSV and TSV."""

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence

from lorank.errors import DataError, UsageError, unknown_name
from lorank.reading import json_lines, lines, plain_name, read_whole

FORMATS = ("jsonl", "text", "markdown", "csv", "tsv")
ENDINGS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".txt": "text",
    ".text": "text",
    ".md": "markdown",
    ".markdown": "markdown",
    ".csv": "csv",
    ".tsv": "tsv",
}
"""What a file's name ends in, and the format that it then has."""
TEXTS = ("text", "document", "passage", "body", "content", "contents", "abstract")
"""Columns that hold the text of a document, the first of them that is there."""
_HEADING = re.compile(r"#{1,6}\s+\S")
_FENCE = re.compile(r"\s{0,3}(```|~~~)")


def read_documents(source: str, format: str | None = None, column: str | None = None) -> list[str]:
    """Return the texts of the documents in a file, or on the standard input (``-``).

    Args:
        source: The file; compressed ones are read too.
        format: One of ``FORMATS``; None goes by the file's name, and where that says nothing by the first line: one
            that begins as a JSON string or object is of JSON lines, any other of text.
        column: The column of CSV and TSV that holds the text.

    Raises:
        DataError: Naming file, line and remedy, for what cannot be read, and for a file without a document.
        UsageError: For an unknown format, and a column that is named where there are none.
    """
    from lorank.ranking.scorers.texts import replace_surrogates

    if format is not None and format not in FORMATS:
        raise unknown_name("--format", format, FORMATS)
    format = format or _format_of(source)
    if column is not None and format not in ("csv", "tsv"):
        raise UsageError(f"--column {column}: {source} is read as {format}, which has no columns; give --format csv")
    texts = list(_read(source, format, column))
    if not texts:
        raise DataError(source, None, f"no document (read as {format})", "give a file with some, or choose --format")
    return [replace_surrogates(text) for text in texts]


def read_named_documents(source: str) -> tuple[list[str], list[str]]:
    """Return the ids and texts of JSON lines with ``_id`` (or ``id``), ``text`` and, where there is one, ``title``.

    Raises DataError, naming file, line and remedy, for a row without id or text, and for an id that repeats.
    """
    expected = '{"_id": ..., "text": ..., "title": ...}'
    ids: dict[str, int] = {}
    texts: list[str] = []
    for number, row in json_lines(source, expected):
        name, text, title = row.get("_id", row.get("id")), row.get("text"), row.get("title")
        if not isinstance(name, str | int) or isinstance(name, bool) or not isinstance(text, str):
            raise DataError(source, number, "the row lacks an id or a text", f"write {expected}")
        if str(name) in ids:
            raise DataError(source, number, f"document {name!r} is on line {ids[str(name)]} too", "keep one of them")
        ids[str(name)] = number
        texts.append(f"{title}\n{text}" if title else text)
    if not ids:
        raise DataError(source, None, "no document", "give a file with some")
    return list(ids), texts


def _read(source: str, format: str, column: str | None) -> Iterator[str]:
    if format == "jsonl":
        return _of_json_lines(source)
    if format == "text":
        return (text.strip() for _, text in lines(source))
    if format == "markdown":
        return sections(read_whole(source))
    return _of_table(source, "," if format == "csv" else "\t", column)


def _format_of(source: str) -> str:
    name = plain_name(source)
    ending = name[name.rfind(".") :].lower() if "." in name else ""
    if ending in ENDINGS:
        return ENDINGS[ending]
    first = next((text for _, text in lines(source)), "").lstrip()
    return "jsonl" if first.startswith(("{", '"')) else "text"


def sections(text: str) -> Iterator[str]:
    """Yield the sections of a Markdown text: a heading with what follows it, and what stands before the first.

    Headings inside of code are none, and a heading without text of its own is left out.

    >>> list(sections("intro\\n# One\\na\\n\\n## Two\\n## Three\\nb"))
    ['intro', 'One\\na', 'Three\\nb']
    """
    title, fenced = "", False
    body: list[str] = []

    def whole() -> list[str]:
        content = "\n".join(body).strip()
        return [f"{title}\n{content}" if title else content] if content else []

    for line in text.split("\n"):
        if _FENCE.match(line):
            fenced = not fenced
        if fenced or not _HEADING.match(line):
            body.append(line)
            continue
        yield from whole()
        title, body = line.lstrip("#").strip().rstrip("#").strip(), []
    yield from whole()


def _of_json_lines(source: str) -> Iterator[str]:
    remedy = 'write one JSON string or {"text": ...} a line, or say what it is with --format text'
    for number, line in lines(source):
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            said = getattr(error, "msg", "nested too deeply")
            raise DataError(source, number, f"not JSON ({said})", remedy) from error
        if isinstance(row, str):
            yield row
        elif isinstance(row, dict) and isinstance(row.get("text"), str):
            yield f"{row['title']}\n{row['text']}" if row.get("title") else row["text"]
        else:
            found = f"an object with {', '.join(map(repr, row)) or 'nothing'}" if isinstance(row, dict) else "no string"
            raise DataError(source, number, f"neither a string nor an object with a text, but {found}", remedy)


def _of_table(source: str, delimiter: str, column: str | None) -> Iterator[str]:
    rows = csv.reader(io.StringIO(read_whole(source)), delimiter=delimiter, strict=delimiter == ",")
    try:
        names = [name.strip() for name in next(rows, [])]
        at = _text_column(source, names, column)
        title = next((i for i, name in enumerate(names) if name.lower() == "title" and i != at), None)
        for row in rows:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(names):
                raise DataError(
                    source,
                    rows.line_num,
                    f"{len(row)} cells where the header has {len(names)}",
                    "quote cells with commas",
                )
            yield f"{row[title]}\n{row[at]}" if title is not None and row[title] else row[at]
    except csv.Error as error:
        raise DataError(source, rows.line_num, f"not a table ({error})", "check the quotes") from error


def _text_column(source: str, names: Sequence[str], column: str | None) -> int:
    if column is not None:
        if column not in names:
            raise unknown_name(f"--column of {source}:", column, names)
        return names.index(column)
    lower = [name.lower() for name in names]
    found = next((lower.index(name) for name in TEXTS if name in lower), None)
    if found is None and len(names) == 1:
        found = 0
    if found is None:
        raise DataError(
            source, 1, f"no column of text among {', '.join(map(repr, names)) or 'nothing'}", "name it with --column"
        )
    return found
