"""Click logs, JSON Lines or Parquet, in and out, as a stream of impressions.

``{"session", "query_id", "doc_ids": [...], "clicks": [0/1, ...], "propensities": [...]?, "features": ...?}``; the
position of a document is its index in the list, from 1, where ``"positions"`` does not say another. Texts may come
along (``"query"``, ``"docs"``), and what was seen beside the clicks: ``"time"`` (seconds), ``"device"``, ``"dwell"``
(seconds a document was read), ``"heights"`` (pixels that it took), ``"gains"`` (what a document was worth in the list
that it led to, see `lorank.ranking.clicks.core.nested`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lorank.data.bad_rows import collected
from lorank.data.parquet import read_records, write_records
from lorank.errors import DataError, OnBad, UsageError, report_bad
from lorank.ranking.grades import as_grade

EXPECTED = (
    '{"session", "query_id", "doc_ids": [...], "clicks": [0/1, ...]} with "propensities": [...] and '
    '"features": [[...], ...] where known'
)


MOST_POSITIONS = 1000
"""A position beyond this one is taken for a mistake in the data."""


@dataclass(frozen=True)
class Impression:
    """One shown list: ``doc_ids`` [n] from the top, ``clicks`` 0 or 1 [n].

    ``propensities`` [n], above 0 and at most 1: how likely the logging policy was to show what it showed, or the
    user to look there. ``features`` [n, f]: one row of finite numbers a document. ``positions`` [n] count from 1; None
    means 1 to n. ``query`` and ``texts`` [n] are texts where the log brings them; ``time`` is in seconds, ``dwell``
    [n] in
    seconds, ``heights`` [n] in pixels; ``gains`` [n] are finite. ``line`` is where the impression stands in its file,
    0 where it comes from none.
    """

    session: str
    query_id: str
    doc_ids: tuple[str, ...]
    clicks: tuple[int, ...]
    propensities: tuple[float, ...] | None = None
    features: tuple[tuple[float, ...], ...] | None = None
    positions: tuple[int, ...] | None = None
    query: str | None = None
    texts: tuple[str, ...] | None = None
    time: float | None = None
    device: str | None = None
    dwell: tuple[float, ...] | None = None
    heights: tuple[float, ...] | None = None
    gains: tuple[float, ...] | None = None
    line: int = field(default=0, compare=False, repr=False)

    @property
    def places(self) -> tuple[int, ...]:
        """The position of each document, counted from 1.

        >>> Impression("s1", "q1", ("a", "b"), (0, 1)).places
        (1, 2)
        """
        return tuple(range(1, len(self) + 1)) if self.positions is None else self.positions

    def __len__(self) -> int:
        return len(self.doc_ids)

    def problem(self) -> str | None:
        """Return what is wrong with the impression, or None.

        >>> Impression("s1", "q1", ("a", "b"), (0, 2)).problem()
        'clicks hold 2, which is neither 0 nor 1'
        """
        checks = (
            self._problem_of_ids,
            self._problem_of_clicks,
            self._problem_of_propensities,
            self._problem_of_features,
            self._problem_of_positions,
            self._problem_of_texts,
            self._problem_of_what_was_seen,
        )
        return next((found for check in checks if (found := check())), None)

    def _problem_of_ids(self) -> str | None:
        ids = [("session", self.session), ("query_id", self.query_id), *(("doc_ids", d) for d in self.doc_ids)]
        for name, value in ids:
            if not isinstance(value, str) or not value:
                return f"{name} holds {value!r}, which is not an id"
        if not self.doc_ids:
            return "doc_ids is empty"
        return "doc_ids lists a document twice" if len(set(self.doc_ids)) < len(self.doc_ids) else None

    def _problem_of_clicks(self) -> str | None:
        if len(self.clicks) != len(self):
            return f"{len(self.clicks)} clicks for {len(self)} doc_ids"
        wrong = [click for click in self.clicks if isinstance(click, str) or click not in (0, 1)]
        return f"clicks hold {wrong[0]!r}, which is neither 0 nor 1" if wrong else None

    def _problem_of_propensities(self) -> str | None:
        if self.propensities is None:
            return None
        if len(self.propensities) != len(self):
            return f"{len(self.propensities)} propensities for {len(self)} doc_ids"
        wrong = [p for p in self.propensities if not (_is_number(p) and 0 < p <= 1)]
        return f"propensities hold {wrong[0]!r}, which is not above 0 and at most 1" if wrong else None

    def _problem_of_features(self) -> str | None:
        if self.features is None:
            return None
        if len(self.features) != len(self) or len({len(row) for row in self.features}) != 1:
            return f"features are not {len(self)} rows of equal length"
        wrong = [x for row in self.features for x in row if not _is_number(x)]
        return f"features hold {wrong[0]!r}, which is not a finite number" if wrong else None

    def _problem_of_positions(self) -> str | None:
        if self.positions is None:
            too_long = len(self) > MOST_POSITIONS
            return f"{len(self)} doc_ids are more than {MOST_POSITIONS:,}, the most positions" if too_long else None
        if len(self.positions) != len(self):
            return f"{len(self.positions)} positions for {len(self)} doc_ids"
        whole = [type(p) is int for p in self.positions]
        if not all(whole):
            return f"positions hold {self.positions[whole.index(False)]!r}, which is not a whole number"
        if min(self.positions) < 1:
            return f"positions hold {min(self.positions)}, and they are counted from 1"
        if max(self.positions) > MOST_POSITIONS:
            return f"positions hold {max(self.positions)}, which is more than {MOST_POSITIONS:,}, the most"
        return "two documents have one position" if len(set(self.positions)) < len(self) else None

    def _problem_of_texts(self) -> str | None:
        if self.texts is not None and len(self.texts) != len(self):
            return f"{len(self.texts)} docs for {len(self)} doc_ids"
        named = [("query", self.query), ("device", self.device), *(("docs", text) for text in self.texts or ())]
        wrong = [(name, v) for name, v in named if v is not None and (not isinstance(v, str) or not v.strip())]
        return f"{wrong[0][0]} holds {wrong[0][1]!r}, which is not a text" if wrong else None

    def _problem_of_what_was_seen(self) -> str | None:
        if self.time is not None and not _is_number(self.time):
            return f"time is {self.time!r}, which is not a finite number"
        for name, values in (("dwell", self.dwell), ("heights", self.heights), ("gains", self.gains)):
            if values is not None and len(values) != len(self):
                return f"{len(values)} {name} for {len(self)} doc_ids"
            wrong = [v for v in values or () if not _is_number(v) or (v < 0 and name != "gains")]
            if wrong:
                return f"{name} hold {wrong[0]!r}, which is not a number from 0 up"
        return None


def _is_number(value: Any) -> bool:
    return not isinstance(value, bool) and as_grade(value) is not None


def _tuple(row: dict[str, Any], key: str) -> tuple[Any, ...]:
    value = row[key]
    if not isinstance(value, list):
        raise TypeError(f"{key!r} is not a list")
    return tuple(value)


def _optional(row: dict[str, Any], key: str) -> tuple[Any, ...] | None:
    return _tuple(row, key) if row.get(key) is not None else None


def _impression(row: dict[str, Any], line: int = 0) -> Impression:
    missing = [key for key in ("session", "query_id", "doc_ids", "clicks") if key not in row]
    if missing:
        raise TypeError(f"no {missing[0]!r}")
    features = None
    if "features" in row:
        features = tuple(tuple(each) if isinstance(each, list) else (each,) for each in _tuple(row, "features"))
    made = Impression(
        row["session"],
        row["query_id"],
        _tuple(row, "doc_ids"),
        _tuple(row, "clicks"),
        _tuple(row, "propensities") if "propensities" in row else None,
        features,
        _optional(row, "positions"),
        row.get("query"),
        _optional(row, "docs"),
        row.get("time"),
        row.get("device"),
        _optional(row, "dwell"),
        _optional(row, "heights"),
        _gains(row),
        line,
    )
    if problem := made.problem():
        raise TypeError(problem)
    return replace(made, clicks=tuple(int(click) for click in made.clicks))


def _gains(row: dict[str, Any]) -> tuple[Any, ...] | None:
    """Return the gains that a row states, or that the second lists of its documents (``"nested"``) make."""
    if row.get("nested") is None:
        return _optional(row, "gains")
    nested = _tuple(row, "nested")
    clicks = _tuple(row, "clicks")
    if len(nested) != len(clicks) or any(each is not None and not isinstance(each, list) for each in nested):
        raise TypeError(f"nested is not {len(clicks)} lists of rewards, or nulls, one a document")
    if not all(_is_number(reward) for each in nested for reward in each or ()):
        raise TypeError("nested holds a reward that is not a finite number")
    from lorank.ranking.clicks.core.nested import nested_gains

    return tuple(nested_gains(clicks, nested))


def read_clicks(path: str | Path, *, on_bad: OnBad | None = None) -> Iterator[Impression]:
    """Yield the impressions of a click log, streamed.

    Args:
        path: The log, JSON Lines or Parquet.
        on_bad: What is called with each bad row, which is left out.

    Raises:
        DataError: After the last row, with one report of all bad rows, each with file and line, where ``on_bad`` is
            None.
    """
    with collected(on_bad) as on_bad:
        for line, row in read_records(path, EXPECTED, on_bad):
            try:
                made = _impression(row, line)
            except TypeError as error:
                report_bad(DataError(path, line, str(error), f"a row is {EXPECTED}"), row, on_bad)
                continue
            yield made


def write_clicks(impressions: Iterable[Impression], path: str | Path) -> None:
    """Write impressions as JSON Lines or Parquet, recognised by the name, all or nothing.

    Raises UsageError for a bad impression.
    """
    write_records(map(_record, impressions), path)


def _record(impression: Impression) -> dict[str, Any]:
    if problem := impression.problem():
        raise UsageError(f"session {impression.session!r}: {problem}")
    row: dict[str, Any] = {
        "session": impression.session,
        "query_id": impression.query_id,
        "doc_ids": list(impression.doc_ids),
        "clicks": list(impression.clicks),
    }
    if impression.propensities is not None:
        row["propensities"] = list(impression.propensities)
    if impression.features is not None:
        row["features"] = [list(each) for each in impression.features]
    for name, value in (("query", impression.query), ("time", impression.time), ("device", impression.device)):
        if value is not None:
            row[name] = value
    lists = {
        "positions": impression.positions,
        "docs": impression.texts,
        "dwell": impression.dwell,
        "heights": impression.heights,
        "gains": impression.gains,
    }
    return row | {name: list(values) for name, values in lists.items() if values is not None}
