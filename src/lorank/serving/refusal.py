"""A refusal: the status, a code for programs, and a message that tells people what to change."""

import math

from starlette.responses import JSONResponse


class Refusal(Exception):
    """A request that is not answered.

    ``status`` is 400 (wrong), 401 (no valid key), 404 (no such model or path), 408 (body too slow), 413 (too much),
    415 (not JSON), 429 (try later), 503 (not now) or 504 (not in time); ``retry_s`` becomes Retry-After.
    """

    def __init__(self, status: int, code: str, message: str, retry_s: float | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.retry_s = status, code, message, retry_s

    def body(self, request_id: str) -> dict[str, str]:
        """Return the JSON: ``error`` and ``error_type`` as TEI's clients read it, ``message`` as Cohere's do."""
        return {"error": self.message, "error_type": self.code, "message": self.message, "request_id": request_id}

    def response(self, request_id: str) -> JSONResponse:
        """Return the response; 401 and 429 carry the headers that belong to them."""
        headers = {}
        if self.retry_s is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_s)))
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.body(request_id), self.status, headers)


def shown(text: object, most: int = 80) -> str:
    """Return what a client sent as it may stand in a message: quoted, ASCII, short.

    >>> shown("a\\n\\u2028b"), shown("x" * 100, most=5)
    ("'a\\\\n\\\\u2028b'", "'xxxxx...'")
    """
    plain = str(text)
    return ascii(plain if len(plain) <= most else plain[:most] + "...")
