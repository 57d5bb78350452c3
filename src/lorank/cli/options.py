"""Options of the form key=value, whose keys a method names and whose values are JSON or plain text."""

import json
from typing import Annotated, Any

import typer

from lorank.errors import UsageError, unknown_name

Negative = Annotated[
    str,
    typer.Option(
        help="What a judgment below 0 says: error (refuse it), zero (not relevant), skip (not judged, as TREC's -1 and "
        "-2), or keep (a number like any other, such as a loss of money)."
    ),
]
"""The option ``--negative`` of every command that reads judgments."""

Language = Annotated[
    str,
    typer.Option(
        help="How BM25 cuts texts: english, german, arabic, ... (any language of PyStemmer), cjk (pairs of "
        "characters), "
        "code (C++, C#, camelCase), words, or auto: by the script of the documents."
    ),
]
"""The option ``--language`` of every command that builds BM25."""

Groups = Annotated[
    str,
    typer.Option(
        help="relevant: queries that share relevant documents are resampled and tested together; none: each query "
        "counts as independent."
    ),
]
"""The option ``--groups`` of every command that tests or resamples."""


def check_groups(groups: str) -> None:
    """Raise UsageError for a value of ``--groups`` that it does not have."""
    if groups not in ("none", "relevant"):
        raise unknown_name("--groups", groups, ("none", "relevant"))


def key_value(text: str, flag: str) -> tuple[str, Any]:
    """Return the key, dashes as underscores, and the value of ``key=value``; ``flag`` is named in the error.

    >>> key_value("both-orders=false", "--option"), key_value("method=sliding", "--option")
    (('both_orders', False), ('method', 'sliding'))
    """
    key, equals, value = text.partition("=")
    if not key.strip() or not equals:
        raise UsageError(f"{flag} {text!r} is not key=value")
    name = key.strip().replace("-", "_")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def setting_value(text: str) -> tuple[str, Any]:
    """Return the setting and the value of ``section.key=value``; the value is JSON, or plain text.

    >>> setting_value("adapter.alpha=32"), setting_value("loss.name=bce")
    (('adapter.alpha', 32), ('loss.name', 'bce'))
    """
    setting, equals, value = text.partition("=")
    if not setting.strip() or not equals:
        raise UsageError(f"--set {text!r} is not section.key=value")
    try:
        return setting.strip(), json.loads(value)
    except json.JSONDecodeError:
        return setting.strip(), value
