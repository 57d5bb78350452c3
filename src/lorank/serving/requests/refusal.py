"""A refusal: the status, a code for programs, and a message that tells people what to change."""

import logging
import math

from starlette.responses import JSONResponse

logger = logging.getLogger("lorank.serving")


class Refusal(Exception):
    """A request that is not answered.

    ``status`` is 400 (wrong), 401 (no valid key), 404 (no such model or path), 408 (body too slow), 413 (too much),
    415 (not JSON), 429 (try later), 503 (not now) or 504 (not in time); ``retry_s`` becomes Retry-After.
    """

    def __init__(self, status: int, code: str, message: str, retry_s: float | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.retry_s = status, code, message, retry_s

    @property
    def retry_after(self) -> int | None:
        """The whole seconds of the header Retry-After, 1 or more; None where a retry is no use.

        >>> Refusal(429, "busy", "much waits", 0.0).retry_after, Refusal(429, "busy", "much waits", 1.2).retry_after
        (1, 2)
        """
        return None if self.retry_s is None else max(1, math.ceil(self.retry_s))

    def body(self, request_id: str) -> dict[str, str]:
        """Return the JSON; TEI's clients read ``error``, Cohere's ``message``, Jina's ``detail``."""
        return {
            "error": self.message,
            "error_type": self.code,
            "message": self.message,
            "detail": self.message,
            "request_id": request_id,
        }

    def response(self, request_id: str) -> JSONResponse:
        """Return the response; 401 and 429 carry the headers that belong to them."""
        headers = {}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.body(request_id), self.status, headers)


def quote(text: object, most: int = 80) -> str:
    """Return what a client sent as it may stand in a message: quoted, ASCII, short.

    >>> quote("a\\n\\u2028b"), quote("x" * 100, most=5)
    ("'a\\\\n\\\\u2028b'", "'xxxxx...'")
    """
    plain = str(text)
    return ascii(plain if len(plain) <= most else plain[:most] + "...")


def refuse_unchecked(retry_s: float | None = None) -> Refusal:
    """Return the refusal of an adapter that is being checked, or whose check failed and is repeated in ``retry_s``."""
    if retry_s is None:
        return Refusal(503, "not_ready", "this model is still being checked; ask again in a moment", 1)
    return Refusal(
        503, "not_ready", "this model could not be checked in time; ask again after Retry-After seconds", retry_s
    )


def refuse_broken(adapter: str | None, error: Exception) -> Refusal:
    """Return the refusal of an adapter that cannot be loaded; the reason, which may name paths, goes to the log."""
    logger.error("adapter %s is refused: %s", ascii(adapter), error)
    return Refusal(
        503, "broken_model", "this model cannot be loaded; its operator finds the reason in the server's log"
    )


def refuse_uncertified() -> Refusal:
    """Return the refusal of a certified threshold that the model does not have."""
    return Refusal(
        400,
        "no_threshold",
        'this model has no certified threshold: run "lorank calibrate" with --precision-at 0.9 over its folder, or '
        'send "relevance_threshold" with a number of your own in place of "above_threshold"',
    )
