"""What is logged: one bounded line a record, whatever stands in it; and no more of them than a disk can bear."""

import io
import json
import logging
import sys

import pytest

from lorank.serving.http.logs import BURST, LONGEST, Handler, JsonFormatter, LineGuard, TextFormatter, escape

FORGED = "2026-11-28 00:00:00,000 POST '/v1/rerank' 200 1.0 ms caller=globex id=forged"
NASTY = [
    f"x\n{FORGED}",
    f"x\r{FORGED}",
    f"x\u2028{FORGED}",
    f"x\x0b{FORGED}\x85{FORGED}",
    "\x1b[2J\x07",
    "\u202egnp",
    "\ud800",
]


def records(formatter, *messages, error=None, clock=None):
    """Log messages from one place; return what was written."""
    stream = io.StringIO()
    handler = Handler(stream)
    handler.setFormatter(formatter)
    handler.addFilter(LineGuard(clock or (lambda: 0.0)))
    logger = logging.Logger("test")
    logger.addHandler(handler)
    for message in messages:
        logger.error("adapter is refused: %s", message, exc_info=error)
    return stream.getvalue()


@pytest.mark.parametrize("message", NASTY)
def test_no_message_forges_a_line(message):
    written = records(TextFormatter(), message)
    assert len(written.splitlines()) == 1
    assert written.isprintable() or written[:-1].isprintable()
    row = records(JsonFormatter(), message)
    assert len(row.splitlines()) == 1
    assert "refused" in json.loads(row)["message"]


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_long_messages_are_cut(formatter):
    written = records(formatter, "y" * 1_000_000)
    assert LONGEST < len(written) < LONGEST + 300
    assert "more)" in written


def test_traces_are_indented_escaped_and_bounded():
    try:
        raise ValueError(f"tensor\n{FORGED}\n" + "z" * 100_000)
    except ValueError:
        error = sys.exc_info()
    written = records(TextFormatter(), "failed", error=error)
    first, *others = written.splitlines()
    assert first.endswith("failed")
    assert all(line.startswith("    | ") for line in others)
    assert len(written) < 6 * LONGEST
    assert len(records(JsonFormatter(), "failed", error=error).splitlines()) == 1


def test_a_flood_from_one_place_is_counted_and_not_written():
    now = [0.0]
    stream = io.StringIO()
    guard, handler = LineGuard(lambda: now[0]), Handler(stream)
    handler.addFilter(guard)
    handler.setFormatter(TextFormatter())
    logger = logging.Logger("test")
    logger.addHandler(handler)
    for number in range(10_001):
        now[0] = 100.0 if number == 10_000 else 0.0
        logger.error("accept failed %d", number)
    logger.error("another place")
    lines = stream.getvalue().splitlines()
    assert len(lines) == BURST + 2
    assert f"({10_000 - int(BURST)} lines like this one were left out)" in lines[-2]
    for number in range(30_000):
        guard.filter(logging.makeLogRecord({"bucket": ("requests", f"t{number}")}))
    assert len(guard.buckets) <= 10_001


def test_a_log_that_cannot_be_written_stops_nothing():
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

    handler = Handler(Full())
    handler.emit(logging.makeLogRecord({"msg": "lost"}))


def test_escaping_leaves_ordinary_text_alone():
    assert escape("adapter 'übung-中' is refused: a/b.json:3: no") == "adapter 'übung-中' is refused: a/b.json:3: no"
