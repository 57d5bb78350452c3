"""TREC's files that look like XML: topics (``<top>``, ``<topic>``) and documents (``<DOC>``), closed tags or not."""

import html
import re
from collections.abc import Iterator

from lorank.data.importing.found import Found, Place, Query, RowError, Text
from lorank.data.importing.registry import Options, Source, reader
from lorank.data.importing.values import read_id
from lorank.errors import DataError, OnBad, report_bad
from lorank.reading import all_lines

_ENDINGS = (".trec", ".sgml", ".sgm", ".xml", ".topics", ".txt", "")
_START = re.compile(r"<(top|topic|doc)\b([^>]*)>", re.IGNORECASE)
_FIELD = re.compile(r"<([a-zA-Z][\w-]*)[^>]*>([^<]*)")
_TAG = re.compile(r"<[^>]*>")
_LABEL = re.compile(r"^\s*(Number|Topic|Description|Narrative)\s*:", re.IGNORECASE)
_NAMES = {"desc": "description", "narr": "narrative"}
_TITLES = ("title", "headline", "hl", "head", "ti")
_BODIES = ("text", "body", "abstract", "content", "contents", "leadpara", "lp", "p")


def elements(source: Source, on_bad: OnBad) -> Iterator[tuple[int, str, str, str]]:
    """Yield (line, name in lower case, attributes, content) of every topic and document of a file."""
    name, attributes, start, held = "", "", 0, list[str]()
    for number, line in all_lines(source.path, on_bad):
        rest = line
        while rest:
            if not name:
                found = _START.search(rest)
                if not found:
                    break
                name, attributes, start, rest = found.group(1).lower(), found.group(2), number, rest[found.end() :]
            end = re.search(rf"</{name}\s*>", rest, re.IGNORECASE)
            if not end:
                held.append(rest)
                break
            yield start, name, attributes, "\n".join([*held, rest[: end.start()]])
            name, held, rest = "", [], rest[end.end() :]
    if name:
        problem = f"the <{name}> has no end"
        report_bad(DataError(source.path, start, problem, f"close it with </{name}>"), "\n".join(held)[:1000], on_bad)


def plain(text: str) -> str:
    """Return text without tags, entities and runs of blanks.

    >>> plain("<p>black &amp; white</p>")
    'black & white'
    """
    return " ".join(html.unescape(_TAG.sub(" ", text)).split())


def _query(place: Place, attributes: str, content: str, fields: tuple[str, ...]) -> Query:
    found: dict[str, str] = {}
    for tag, value in _FIELD.findall(content):
        key = _NAMES.get(tag.lower(), tag.lower())
        found.setdefault(key, plain(_LABEL.sub("", value)))
    number = re.search(r"""(?:number|num|id)\s*=\s*["']?([^"'\s>]+)""", attributes, re.IGNORECASE)
    name = number.group(1) if number else next((found[key] for key in ("num", "number", "id") if found.get(key)), None)
    if name is None:
        raise RowError("the topic has no number", "give it <num>")
    texts = [found[field] for field in fields if found.get(field)]
    texts = texts or [found[key] for key in ("title", "query", "question", "description") if found.get(key)][:1]
    if not texts:
        raise RowError("the topic has no text", "give it <title>")
    return Query(place, read_id(name, "topic number"), " ".join(texts))


def _document(place: Place, content: str) -> Text:
    name = re.search(r"<(docno|docid|id)\b[^>]*>(.*?)</\1\s*>", content, re.IGNORECASE | re.DOTALL)
    if not name:
        raise RowError("the document has no <DOCNO>", "give every <DOC> its <DOCNO>")
    content = content.replace(name.group(0), "", 1)
    title = _inside(content, _TITLES, first=True)
    text = _inside(content, _BODIES) or plain(_without(content, ("docid", "docno", *_TITLES)))
    if not text and not title:
        raise RowError("the document is empty")
    return Text(place, read_id(name.group(2), "DOCNO"), title, text)


def _without(content: str, tags: tuple[str, ...]) -> str:
    for tag in tags:
        content = re.sub(rf"<{tag}\b[^>]*>.*?</{tag}\s*>", " ", content, flags=re.IGNORECASE | re.DOTALL)
    return content


def _inside(content: str, tags: tuple[str, ...], *, first: bool = False) -> str:
    """Return the text of the first of ``tags`` that the content has: of its first element, or of all."""
    for tag in tags:
        parts = re.findall(rf"<{tag}\b[^>]*>(.*?)</{tag}\s*>", content, re.IGNORECASE | re.DOTALL)
        text = plain(" ".join(parts[:1] if first else parts))
        if text:
            return text
    return ""


def _fits(source: Source) -> bool:
    return source.ending in _ENDINGS and bool(re.search(rb"<(top|topics?|doc)\b[^>]*>", source.head, re.IGNORECASE))


@reader("trec", "TREC topics and documents", fits=_fits, order=0)
def read_trec(source: Source, options: Options, on_bad: OnBad) -> Iterator[Found]:
    """Yield the topics and documents of a file."""
    for line, name, attributes, content in elements(source, on_bad):
        place = Place(source.path, line)
        try:
            if name == "doc":
                yield _document(place, content)
            else:
                yield _query(place, attributes, content, options.topic_fields)
        except RowError as error:
            report_bad(DataError(source.path, line, str(error), error.remedy), content[:1000], on_bad)
