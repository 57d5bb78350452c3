"""Logs of interactions: which user chose which item, in the order of time.

A log has a header line that names its columns, or none:

- with one, separated by commas or tabs: ``user``, ``item`` and, where there is one, ``time`` (MovieLens's ``userId``,
  ``movieId``, ``timestamp`` are known too);
- without: ``user item``, or ``user item rating time``, separated by tabs or ``::`` (MovieLens's ``u.data`` and
  ``ratings.dat``).

Other columns, ratings too, are not used: what was chosen counts. Without a time the order of the rows is that of time.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lorank.data.bad_rows import collected
from lorank.data.files import lines
from lorank.errors import DataError, OnBad
from lorank.reading import parse_number

COLUMNS = {
    "user": ("user", "userid", "user_id", "uid", "reviewerid"),
    "item": ("item", "itemid", "item_id", "iid", "movieid", "movie_id", "asin", "product_id", "productid"),
    "time": ("time", "timestamp", "unixreviewtime", "date"),
}
"""What the columns may be called, in small letters."""
REMEDY = "write user, item and time, with a header line that names them"


@dataclass(frozen=True)
class Interactions:
    """What each user chose: ``sequences[u]`` are places of items from 1, int64 [events], in the order of time.

    Place 0 stands for no item, so that the item of place p is ``items[p - 1]``.
    """

    users: list[str]
    items: list[str]
    sequences: list[np.ndarray]

    def of(self, items: list[str]) -> "Interactions":
        """Return the log with the places of other ``items``; what is not among them is left out, and users of none."""
        place = {name: number for number, name in enumerate(items, 1)}
        known = np.array([0, *(place.get(name, 0) for name in self.items)])
        kept = [known[row][known[row] > 0] for row in self.sequences]
        users = [user for user, row in zip(self.users, kept, strict=True) if len(row)]
        return Interactions(users, list(items), [row for row in kept if len(row)])


def read_interactions(path: str | Path, on_bad: OnBad | None = None) -> Interactions:
    """Return the log of a file.

    Args:
        path: The file, plain or packed.
        on_bad: It is called with each bad row; None reports all of them and raises.

    Raises:
        DataError: For rows that lack a user or an item, a time that is no number, and a log without rows.
    """
    events: list[tuple[float, str, str]] = []
    with collected(on_bad) as bad:
        at: dict[str, int] | None = None
        cut = "\t"
        for number, line in lines(path, bad):
            text = line.rstrip("\r\n")
            if at is None:
                cut = next((each for each in ("::", "\t", ",") if each in text), "\t")
                at = _named(_cells(text, cut))
                if at:
                    continue
                at = _unnamed(path, _cells(text, cut))
            event = _event(_cells(text, cut), at, number)
            if isinstance(event, str):
                bad(DataError(path, number, event, REMEDY), text)
            else:
                events.append(event)
    if not events:
        raise DataError(path, None, "no interaction", REMEDY)
    return _grouped(sorted(events, key=lambda event: event[0]))


def _cells(line: str, cut: str) -> list[str]:
    cells = line.split(cut) if cut != "," else next(csv.reader([line]), [])
    return [cell.strip() for cell in cells]


def _named(cells: list[str]) -> dict[str, int]:
    """Return where the columns stand that a header names, or nothing where the line is no header."""
    small = [cell.lower() for cell in cells]
    found = {column: place for column, names in COLUMNS.items() for place, name in enumerate(small) if name in names}
    return found if {"user", "item"} <= found.keys() else {}


def _unnamed(path: str | Path, cells: list[str]) -> dict[str, int]:
    if len(cells) == 2:
        return {"user": 0, "item": 1}
    if len(cells) == 4:
        return {"user": 0, "item": 1, "time": 3}
    raise DataError(path, None, f"{len(cells)} columns without a header line that names user and item", REMEDY)


def _event(cells: list[str], at: dict[str, int], number: int) -> tuple[float, str, str] | str:
    """Return the time, the user and the item of a row, or what is wrong with it."""
    if len(cells) <= max(at.values()):
        return "too few columns"
    user, item = cells[at["user"]], cells[at["item"]]
    if not user or not item:
        return "no user or no item"
    time = parse_number(cells[at["time"]]) if "time" in at else float(number)
    return "the time is no number" if time is None else (time, user, item)


def _grouped(events: list[tuple[float, str, str]]) -> Interactions:
    users: dict[str, list[int]] = {}
    items: dict[str, int] = {}
    for _, user, item in events:
        users.setdefault(user, []).append(items.setdefault(item, len(items) + 1))
    return Interactions(list(users), list(items), [np.array(row, np.int64) for row in users.values()])
