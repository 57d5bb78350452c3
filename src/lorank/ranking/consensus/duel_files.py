"""Files of duels: CSV or tab-separated, one duel a line, in the order played.

Two columns are ``winner,loser``; three are ``a,b,outcome``, the outcome being 1, a, model_a or left where a won;
0, b, model_b or right where b won; 0.5, tie or draw where nobody did. A first line of column names is skipped.
"""

from pathlib import Path

from lorank.errors import DataError
from lorank.ranking.consensus.profile import Profile, from_duels
from lorank.ranking.consensus.reading import csv_rows
from lorank.reading import short

OUTCOMES: dict[str, float] = {
    **dict.fromkeys(("1", "1.0", "a", "model_a", "left"), 1.0),
    **dict.fromkeys(("0", "0.0", "b", "model_b", "right"), 0.0),
    **dict.fromkeys(("0.5", ".5", "tie", "draw", "tie (bothbad)"), 0.5),
}
_HEADERS = ("winner", "outcome", "result")


def read_duels(path: str | Path) -> Profile:
    """Return the profile of a file of duels, which may be compressed.

    Raises:
        DataError: With file and line, for another number of columns, an unknown outcome, an item against itself,
            or no duels.
    """
    duels: list[tuple[str, str, float]] = []
    columns = 0
    for number, (line, fields) in enumerate(csv_rows(path)):
        row = [field.strip() for field in fields]
        if not any(row):
            continue
        if len(row) not in (2, 3) or len(row) != (columns or len(row)):
            raise DataError(path, line, f"{len(row)} columns", "a duel is winner,loser or a,b,outcome")
        columns = len(row)
        if number == 0 and any(cell.lower() in _HEADERS for cell in row):
            continue
        duels.append(read_duel(path, line, row))
    if not duels:
        raise DataError(path, None, "the file holds no duels", "a duel is winner,loser or a,b,outcome")
    return from_duels(duels)


def read_duel(path: str | Path, line: int, row: list[str]) -> tuple[str, str, float]:
    """Return a duel's two items and its outcome from the cells of a line: winner and loser, or a, b and outcome.

    Raises DataError with file and line for an item against itself, an empty name or an unknown outcome.
    """
    a, b, outcome = row if len(row) == 3 else [*row, "1"]
    if not a or not b or a == b:
        raise DataError(path, line, f"{a!r} against {b!r} is no duel", "name two different items")
    if outcome.lower() not in OUTCOMES:
        raise DataError(path, line, f"the outcome {short(outcome)} is unknown", f"write one of {', '.join(OUTCOMES)}")
    return a, b, OUTCOMES[outcome.lower()]
