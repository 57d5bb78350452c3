"""Files of propensities: JSON as `lorank clicks fit --out` and a run write it, or CSV of position and propensity."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from lorank.errors import DataError, UsageError
from lorank.ranking.clicks import Propensities
from lorank.reading import all_lines, plain_name, read_whole

COLUMNS = ("propensity", "examination")


def read_propensities(path: str | Path) -> Propensities:
    """Return the propensities in a file.

    JSON: a list from the first position on, ``{"1": 1.0, "2": 0.6}``, or an object with ``"curve"`` (as in the run
    folder of a debiased run) or ``"propensities"`` (as `lorank clicks fit` writes it). CSV: columns ``position`` and
    ``propensity`` or ``examination``.

    Raises:
        UsageError: Where there is no such file.
        DataError: For content that is none of these, positions with gaps, and values that are not above 0; values
            above 1 are right where they are relative to the first.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"there is no file of propensities at {path}")
    values = _of_json(path) if plain_name(path).endswith(".json") else _of_csv(path)
    wrong = [v for v in values if not (np.isfinite(v) and v > 0)]
    if wrong or not values:
        problem = f"the propensity {wrong[0]} is not above 0" if wrong else "the file holds no propensity"
        raise DataError(path, None, problem, "give one number above 0 for each position")
    return Propensities(np.array(values) / values[0], path.name)


def _of_json(path: Path) -> list[float]:
    try:
        content: Any = json.loads(read_whole(path))
        for key in ("propensities", "curve"):
            if isinstance(content, dict) and key in content:
                content = content[key]
        if isinstance(content, dict):
            return _in_order(path, {int(k): float(v) for k, v in content.items()})
        return [float(value) for value in content]
    except (ValueError, TypeError) as error:
        raise DataError(
            path, None, f"not propensities ({error})", 'write [1.0, 0.6, ...] or {"1": 1.0, "2": 0.6}'
        ) from error


def _of_csv(path: Path) -> list[float]:
    rows = csv.DictReader(text for _, text in all_lines(path))
    column = next((name for name in COLUMNS if name in (rows.fieldnames or ())), None)
    if column is None or "position" not in (rows.fieldnames or ()):
        raise DataError(path, 1, f"the columns are {rows.fieldnames}", "name them position and propensity")
    found: dict[int, float] = {}
    for line, row in enumerate(rows, start=2):
        try:
            found[int(row["position"])] = float(row[column])
        except (TypeError, ValueError) as error:
            raise DataError(path, line, f"not a position and a number ({error})", "write rows such as 2,0.6") from error
        if not found[int(row["position"])] > 0:
            raise DataError(path, line, f"the propensity {row[column]} is not above 0", "write rows such as 2,0.6")
    return _in_order(path, found)


def _in_order(path: Path, found: dict[int, float]) -> list[float]:
    if sorted(found) != list(range(1, len(found) + 1)):
        raise DataError(path, None, f"the positions are {sorted(found)[:6]}", "count them from 1, without gaps")
    return [found[k] for k in sorted(found)]
