"""The server's log: bounded, escaped lines, as text or JSON, and not more of them than a disk can bear.

What a client or a folder sends can stand in a message; it can neither begin a line of its own nor make one that is
longer than `LONGEST`. Each place in the code that logs (for requests: each key, and all clients without a key together)
has a bucket of lines; where it is empty, lines are counted and left out, and the next that is written says how many.
"""

import json
import logging
import re
import sys
import time
from dataclasses import dataclass
from typing import TextIO

from lorank.serving.requests.rate import Clock, TokenBucket

LONGEST = 2000
"""Characters of one message; an exception's trace may have four times as many."""
LINES_A_SECOND, BURST = 20.0, 200.0
REQUESTS_A_SECOND, BURST_OF_REQUESTS = 500.0, 2000.0
"""Lines of one bucket; those of the requests with a key, whose number the server's own work bounds."""
MOST_BUCKETS = 10_000
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def escape(text: str, most: int = LONGEST) -> str:
    r"""Return a text in one line: control characters, line ends and marks of direction escaped, and cut at ``most``.

    >>> escape("a\nb\x1b[2J"), escape("x" * 50, most=10)
    ('a\\nb\\x1b[2J', 'xxxxxxxxxx... (40 more)')
    """
    shown = UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text[:most])
    return shown if len(text) <= most else f"{shown}... ({len(text) - most} more)"


@dataclass
class Bucket:
    """The lines of one place: what may still be written, and how many were left out since the last."""

    tokens: TokenBucket
    left_out: int = 0


class LineGuard(logging.Filter):
    """Lets through as many lines of each bucket as its rate allows; the next one says how many were left out."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        super().__init__()
        self.clock = clock
        self.buckets: dict[object, Bucket] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record may be written."""
        key = getattr(record, "bucket", None) or (record.name, record.pathname, record.lineno)
        bucket = self.buckets.get(key)
        if bucket is None:
            if len(self.buckets) >= MOST_BUCKETS:
                self.buckets.clear()
            keyed = getattr(record, "keyed", False)
            rate, burst = (REQUESTS_A_SECOND, BURST_OF_REQUESTS) if keyed else (LINES_A_SECOND, BURST)
            bucket = self.buckets[key] = Bucket(TokenBucket(rate, burst, self.clock))
        if bucket.tokens.take():
            bucket.left_out += 1
            return False
        record.left_out, bucket.left_out = bucket.left_out, 0
        return True


class TextFormatter(logging.Formatter):
    """``time message``; a trace follows in lines that are indented, so that none looks like one of the log's own."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record."""
        left_out = getattr(record, "left_out", 0)
        more = f" ({left_out} lines like this one were left out)" if left_out else ""
        line = f"{self.formatTime(record)} {escape(record.getMessage())}{more}"
        return "\n".join([line, *(f"    | {escape(row)}" for row in trace_of(self, record))])


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, message, and for requests their fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        row = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": escape(record.getMessage()),
            **getattr(record, "fields", {}),
        }
        if left_out := getattr(record, "left_out", 0):
            row["left_out"] = left_out
        if trace := trace_of(self, record):
            row["trace"] = [escape(line) for line in trace]
        return json.dumps(row, ensure_ascii=True, default=str)


def trace_of(formatter: logging.Formatter, record: logging.LogRecord) -> list[str]:
    """Return the lines of a record's exception, at most four times `LONGEST` characters of them: the end is kept."""
    if not record.exc_info:
        return []
    text = formatter.formatException(record.exc_info)
    return (text if len(text) <= 4 * LONGEST else "..." + text[-4 * LONGEST :]).splitlines()


class Handler(logging.StreamHandler[TextIO]):
    """Writes to a stream; where that fails (a full disk, a closed pipe) the server goes on without a word."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Do nothing: an error of the log must not become an endless source of lines."""


def open_log(style: str = "text", *, quiet: bool = False, stream: TextIO | None = None) -> None:
    """Send everything that is logged to ``stream`` (stderr), guarded; ``quiet`` leaves out what went well."""
    handler = Handler(stream or sys.stderr)
    handler.addFilter(LineGuard())
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING if quiet else logging.INFO)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.raiseExceptions = False
