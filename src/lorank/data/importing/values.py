"""Values as records hold them: texts, ids, numbers and lists, each read or refused with a plain word."""

import json
from typing import Any

from lorank.data.importing.found import RowError
from lorank.ranking.grades import as_grade
from lorank.reading import parse_number, short

_TRUTHS = {"true": 1.0, "yes": 1.0, "y": 1.0, "false": 0.0, "no": 0.0, "n": 0.0}
_TEXTS = ("text", "passage_text", "passage", "content", "contents", "body")


def is_missing(value: Any) -> bool:
    """Return whether a value says nothing: null, an empty text, NaN.

    >>> [is_missing(value) for value in (None, " ", float("nan"), 0, [])]
    [True, True, True, False, False]
    """
    return (
        value is None or (isinstance(value, str) and not value.strip()) or (isinstance(value, float) and value != value)
    )


def read_text(value: Any, what: str) -> str:
    """Return a text: a string, an object with title and text, or the contents of a list of chat messages.

    >>> read_text({"title": "Lists", "text": "Use sorted()."}, "document")
    'Lists\\nUse sorted().'
    """
    if isinstance(value, dict):
        parts = [value.get("title"), next((value[key] for key in _TEXTS if value.get(key)), None)]
        value = "\n".join(part for part in parts if isinstance(part, str) and part)
    elif is_chat(value):
        value = "\n".join(str(message["content"]) for message in value if message.get("content"))
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value:
        value = read_id(value, what)
    if is_missing(value):
        raise RowError(f"the {what} is empty")
    if not isinstance(value, str):
        raise RowError(f"the {what} is {str(value)[:60]!r}, not a text")
    return value.strip()


def is_chat(value: Any) -> bool:
    """Return whether a value is a list of messages with roles."""
    return isinstance(value, list) and bool(value) and all(isinstance(m, dict) and "content" in m for m in value)


def read_id(value: Any, what: str) -> str:
    """Return an id as a text; whole numbers are ids too, and blanks within one are written as %20.

    >>> read_id(12.0, "query id"), read_id("New York", "document id")
    ('12', 'New%20York')
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int) or is_missing(value):
        raise RowError(f"the {what} is {'empty' if is_missing(value) else repr(value)[:60]}, which is no id")
    return as_id(str(value))


def as_id(text: str) -> str:
    """Return a text without white space, so that TREC files can hold it."""
    text = text.strip().replace("\0", "")
    return text if text.split() == [text] else "%20".join(text.split())


def read_number(value: Any, what: str) -> float:
    """Return a finite number; true and false, yes and no are 1 and 0.

    >>> read_number("-0.5", "label"), read_number(True, "label"), read_number("no", "label")
    (-0.5, 1.0, 0.0)
    """
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        number = _TRUTHS.get(value.strip().lower(), parse_number(value))
    else:
        number = as_grade(value)
    if number is None:
        shown = short(value) if isinstance(value, str) else str(value)[:60]
        raise RowError(f"the {what} {shown} is not a finite number")
    return float(number)


def read_list(value: Any) -> list[Any]:
    """Return a list as it is, one that a cell holds as JSON, and any other value as a list of one.

    >>> read_list('["a", "b"]'), read_list("a"), read_list(None)
    (['a', 'b'], ['a'], [])
    """
    if is_missing(value):
        return []
    if isinstance(value, str) and value.lstrip().startswith("[") and value.rstrip().endswith("]"):
        try:
            value = json.loads(value)
        except ValueError:
            return [value]
    if hasattr(value, "tolist"):
        value = value.tolist()
    return list(value) if isinstance(value, list | tuple) and not is_chat(value) else [value]


def read_numbers(value: Any, what: str, length: int) -> list[float]:
    """Return as many finite numbers as there are documents."""
    values = read_list(value)
    if len(values) != length:
        raise RowError(f"there are {len(values)} {what} for {length} documents")
    return [read_number(each, what) for each in values]
