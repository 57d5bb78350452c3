"""From the bytes of a body to a request: counted before anything is built, and given up at the first error.

A body of a few megabytes can hold millions of values, each of which costs a parser fifty bytes and a validator two
errors. So the bytes outside strings are counted first (elements, depth, digits in a row), which takes a few passes of
numpy over them; only then are they parsed and validated in one go, which stops at the first element that is wrong.
"""

import json
import re
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from lorank.serving.requests.limits import Limits
from lorank.serving.requests.refusal import Refusal

LONGEST_NUMBER = 100
NUMBER = re.compile(rb"[0-9.eE+-]{%d}" % (LONGEST_NUMBER + 1))
BRANCHES = ("jina", "tei", "str", "Text")
"""Names of a union's branches, which pydantic puts into the place of an error and a client never wrote."""


def read_request(schema: TypeAdapter[Any], body: bytes, limits: Limits) -> Any:
    """Return the request that a body holds; belongs off the event loop where the body is large.

    Raises:
        Refusal: 400 not JSON or not the schema, 413 more values, deeper lists or longer numbers than the limits allow.
    """
    body = in_utf8(body)
    check_counts(body, limits)
    try:
        return schema.validate_json(body)
    except ValidationError as error:
        raise invalid(error) from None


def in_utf8(body: bytes) -> bytes:
    """Return a body in UTF-8 without a byte order mark, whichever of Unicode's encodings it came in."""
    encoding = json.detect_encoding(body)
    if encoding == "utf-8":
        return body
    try:
        return body.decode(encoding).encode()
    except UnicodeError:
        raise Refusal(400, "not_json", "the body cannot be read as JSON; send it in UTF-8") from None


def outside_strings(body: bytes) -> bytes:
    r"""Return what stands outside the strings of a JSON text; the quotes that end them stay.

    >>> outside_strings(b'{"a\\\\": ["b,\\",", 1]}')
    b'{": [", 1]}'
    """
    if b"\\" in body:
        body = body.replace(b"\\\\", b"__").replace(b'\\"', b"__")
    letters = np.frombuffer(body, np.uint8)
    inside = np.cumsum(letters == ord('"'), dtype=np.uint8) & 1
    outside: bytes = letters[inside == 0].tobytes()
    return outside


def check_counts(body: bytes, limits: Limits) -> None:
    """Refuse a body with more values, more depth or longer numbers than the limits allow, without parsing it."""
    plain = outside_strings(body)
    elements = plain.count(b",") + plain.count(b"[") + plain.count(b"{")
    if elements > limits.elements:
        raise Refusal(
            413,
            "too_many_elements",
            f"the body has about {elements} values; at most {limits.elements} are taken: send fewer documents",
        )
    letters = np.frombuffer(plain, np.uint8)
    opening = (letters == ord("[")) | (letters == ord("{"))
    closing = (letters == ord("]")) | (letters == ord("}"))
    steps = opening[opening | closing].astype(np.int32) * 2 - 1
    depth = int(np.cumsum(steps).max(initial=0))
    if depth > limits.depth:
        raise Refusal(400, "too_deep", f"lists and objects lie {depth} deep in each other; at most {limits.depth} may")
    if NUMBER.search(plain):
        raise Refusal(400, "long_number", f"a number has more than {LONGEST_NUMBER} digits")


def not_unicode() -> Refusal:
    """Return the refusal of a text that is not Unicode."""
    return Refusal(
        400,
        "not_unicode",
        "a text holds half of a surrogate pair (\\ud800 to \\udfff alone) or a broken escape, which is no character; "
        "take it out",
    )


def invalid(error: ValidationError) -> Refusal:
    """Return a message that names the fields and never repeats their contents."""
    said: dict[str, list[str]] = {}
    for problem in error.errors(include_url=False, include_input=False):
        if problem["type"] == "json_invalid":
            if "hex escape" in problem["ctx"]["error"] or "surrogate" in problem["ctx"]["error"]:
                return not_unicode()
            return Refusal(400, "not_json", f"the body is not JSON: {problem['ctx']['error']}")
        place = ".".join(str(part) for part in problem["loc"] if part not in BRANCHES)
        said.setdefault(place or "the body", []).append(problem["msg"])
    text = "; ".join(f"{place}: {', or: '.join(messages)}" for place, messages in list(said.items())[:3])
    more = f" (and {len(said) - 3} more)" if len(said) > 3 else ""
    return Refusal(400, "invalid", text.encode("ascii", "backslashreplace").decode() + more)
