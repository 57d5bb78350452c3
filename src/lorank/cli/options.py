"""Options of the form key=value, whose keys a method names and whose values are JSON or plain text."""

import json
from typing import Any

from lorank.errors import UsageError


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
