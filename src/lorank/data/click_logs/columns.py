"""What readers of columns share: the number of the line that a CSV row ends at, and times."""

from collections.abc import Iterator
from datetime import UTC, datetime

from lorank.reading import parse_number


class NumberedLines(Iterator[str]):
    """The texts of numbered lines; ``number`` is that of the line that was read last, which is where a CSV row ends.

    >>> lines = NumberedLines(iter([(4, "a"), (7, "b")]))
    >>> next(lines), lines.number
    ('a', 4)
    """

    def __init__(self, source: Iterator[tuple[int, str]]) -> None:
        self.source, self.number = source, 0

    def __next__(self) -> str:
        self.number, text = next(self.source)
        return text


def parse_time(text: str) -> float:
    """Return seconds: a number as it stands, a date and time of ISO 8601 since 1970, UTC where it states no zone.

    Raises:
        ValueError: For a text that is neither.

    >>> parse_time("12.5"), parse_time("1970-01-02 00:00:00")
    (12.5, 86400.0)
    """
    number = parse_number(text)
    if number is not None:
        return number
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"the time {text[:40]!r} is neither seconds nor a date such as 2026-11-30 12:00:00") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
