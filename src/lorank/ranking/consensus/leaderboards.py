"""Leaderboards: CSV files with a row for each system and a column for each task, as profiles of scores.

A cell holds a number, several parted by ``/`` (``93.9/91.8``: two measures of one task), or nothing: empty, ``-``,
``NaN``, ``NA``, ``N/A``. The task columns are the voters, the systems the items.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from lorank.errors import DataError, UsageError, unknown_name
from lorank.ranking.consensus.profile import Profile, from_table
from lorank.ranking.consensus.reading import csv_rows
from lorank.reading import parse_number, short

NAME_COLUMNS = ("model", "system", "method", "name")
SUMMARY_COLUMNS = ("rank", "score", "average", "avg", "avg.", "mean", "mean-rank", "meta-ave", "overall")
_MISSING = ("", "-", "nan", "na", "n/a")

Row = dict[str, str]


def read_leaderboard(
    path: str | Path,
    *,
    name: str | None = None,
    tasks: Sequence[str] | None = None,
    lower_is_better: Sequence[str] = (),
    parts: Literal["mean", "split"] = "mean",
) -> Profile:
    """Return the profile of a leaderboard.

    Args:
        path: A CSV file with a header, which may be compressed.
        name: The column of systems' names; None takes the first of ``NAME_COLUMNS``, else the first column.
        tasks: The columns that vote; None takes all whose cells are numbers, but for ``SUMMARY_COLUMNS``.
        lower_is_better: Those of them in which lower is better.
        parts: A cell's several numbers are averaged, or each votes: ``MRPC/1``, ``MRPC/2``. A cell with a part
            missing is missing from the mean.

    Systems of the same name are distinguished by their line: ``RefBERT (line 35)``.

    Raises:
        DataError: With file and line, for a cell of a chosen column that is no number, or a row of another length.
        UsageError: A column that does not exist.
    """
    if parts not in ("mean", "split"):
        raise unknown_name("treatment of parts", parts, ["mean", "split"])
    header, rows = _rows(path)
    column = _name_column(header, name)
    chosen = list(tasks) if tasks is not None else [task for task in header if task != column and _votes(task, rows)]
    for task in [*chosen, *lower_is_better]:
        if task not in header:
            raise unknown_name("column", task, header)
    if not chosen:
        raise DataError(path, None, "no column holds scores", f"name the columns that vote; there are {header}")
    shown = [" ".join(row[column].split()) for _, row in rows]
    systems = [
        system if shown.count(system) == 1 else f"{system} (line {line})"
        for system, (line, _) in zip(shown, rows, strict=True)
    ]
    table: dict[str, dict[str, float]] = {}
    lower: list[str] = []
    for task in chosen:
        cells = [_cell(path, line, task, row[task]) for line, row in rows]
        for voter, scores in _voters(task, cells, parts).items():
            table[voter] = {
                system: score for system, score in zip(systems, scores, strict=True) if not math.isnan(score)
            }
            lower += [voter] if task in lower_is_better else []
    return from_table(table, lower_is_better=lower, items=systems)


def _rows(path: str | Path) -> tuple[list[str], list[tuple[int, Row]]]:
    reader = csv_rows(path, ",")
    header = [" ".join(cell.split()) for cell in next(reader, (0, []))[1]]
    if len(header) < 2 or len(set(header)) != len(header):
        raise DataError(path, 1, "the header does not name two or more columns, each once", "write name,task,...")
    rows = []
    for line, fields in reader:
        if not any(field.strip() for field in fields):
            continue
        if len(fields) != len(header):
            raise DataError(
                path,
                line,
                f"{len(fields)} cells where the header has {len(header)}",
                "quote cells that hold commas",
            )
        rows.append((line, dict(zip(header, fields, strict=True))))
    if not rows:
        raise DataError(path, None, "there is no system", "write a row for each system")
    return header, rows


def _name_column(header: list[str], name: str | None) -> str:
    if name is None:
        lowered = {column.lower(): column for column in header}
        return next((lowered[known] for known in NAME_COLUMNS if known in lowered), header[0])
    if name not in header:
        raise unknown_name("column", name, header)
    return name


def _numbers(text: str) -> list[float]:
    """Return a cell's numbers, NaN for each that is missing; raise ValueError for anything else."""
    text = text.strip()
    if text.lower() in _MISSING:
        return [math.nan]
    return [math.nan if part.strip().lower() in _MISSING else _number(part) for part in text.split("/")]


def _number(text: str) -> float:
    if text.strip().lower().lstrip("+-") in ("inf", "infinity"):
        return math.inf
    number = parse_number(text)
    if number is None:
        raise ValueError(text)
    return number


def _votes(task: str, rows: list[tuple[int, Row]]) -> bool:
    if task.lower() in SUMMARY_COLUMNS:
        return False
    try:
        numbers = [number for _, row in rows for number in _numbers(row[task])]
    except ValueError:
        return False
    return any(math.isfinite(number) for number in numbers)


def _cell(path: str | Path, line: int, task: str, text: str) -> list[float]:
    try:
        numbers = _numbers(text)
    except ValueError as error:
        raise DataError(
            path,
            line,
            f"{short(text.strip())} in column {task!r} is no score",
            "write a number, several parted by '/', or '-' where there is none",
        ) from error
    if any(math.isinf(number) for number in numbers):
        raise DataError(path, line, f"an infinite score in column {task!r}", "leave the cell empty")
    return numbers


def _voters(task: str, cells: list[list[float]], parts: str) -> dict[str, list[float]]:
    if parts == "mean" or all(len(cell) == 1 for cell in cells):
        return {task: [sum(cell) / len(cell) for cell in cells]}
    most = max(map(len, cells))
    padded = [cell + [math.nan] * (most - len(cell)) for cell in cells]
    if any(0 < sum(not math.isnan(number) for number in cell) < most and len(cell) != most for cell in cells):
        raise UsageError(f"the cells of {task!r} do not all hold {most} numbers; average them with parts='mean'")
    return {f"{task}/{part + 1}": [cell[part] for cell in padded] for part in range(most)}
