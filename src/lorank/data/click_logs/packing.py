"""A click log as the sessions that click models and propensity estimators read."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lorank.data.click_logs.reading import read_log
from lorank.data.click_logs.registry import LogCounts
from lorank.data.clicks import Impression
from lorank.errors import DataError, OnBad, UsageError
from lorank.ranking.clicks import SessionBuilder, Sessions


@dataclass(frozen=True)
class LogSessions:
    """The sessions of a log, a row of features for each of their pairs where it brings them, and what was left out."""

    sessions: Sessions
    features: np.ndarray | None = None
    counts: LogCounts = field(default_factory=LogCounts)


def sessions_of_log(path: str | Path, format: str = "auto", on_bad: OnBad | None = None) -> LogSessions:
    """Return the sessions of a log; raise DataError for one without impressions."""
    counts = LogCounts()
    impressions = read_log(path, format, counts, on_bad)
    try:
        return pack(impressions, counts)
    except UsageError as error:
        raise DataError(path, None, str(error), "give a click log with at least one shown list") from error


def pack(impressions: Iterable[Impression], counts: LogCounts | None = None) -> LogSessions:
    """Return impressions as sessions.

    >>> pack([Impression("s", "q", ("a",), (1,), positions=(2,))]).sessions.mask.tolist()
    [[False, True]]
    """
    builder = SessionBuilder()
    features: dict[tuple[str, str], tuple[float, ...]] = {}
    for each in impressions:
        builder.add(each.query_id, each.doc_ids, each.clicks, each.positions)
        for document, row in zip(each.doc_ids, each.features or ()):
            features.setdefault((each.query_id, document), row)
    sessions = builder.build()
    rows = None
    if len(features) == len(sessions.names):
        rows = np.array([features[name] for name in sessions.names], np.float64)
    return LogSessions(sessions, rows, counts or LogCounts())
