"""Failed queries with the questions that are valid for them, as a collection whose documents are the questions.

Rows are JSON lines ``{"query": TEXT, "valid": [QUESTION, ...]}``. The inventory is every question that the rows name,
and those that are given beside them; each query has all of it as its candidates, as a question shares no word with the
query that it is for. A fifth of the queries is dev's and a fifth test's, drawn by a seed.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lorank.data.bad_rows import collected
from lorank.data.collection import Collection, Split
from lorank.errors import DataError, OnBad
from lorank.reading import json_lines, lines

EXPECTED = '{"query": TEXT, "valid": [QUESTION, ...]}'
LEAST = 5
"""The fewest rows: of fewer, train, dev and test would not each have one."""


def read_clarifications(
    path: str | Path, questions: Sequence[str] = (), *, seed: int = 0, on_bad: OnBad | None = None
) -> Collection:
    """Return the collection of a file of rows.

    Args:
        path: The file.
        questions: Questions of the inventory beside those that the rows name.
        seed: The seed of the splits.
        on_bad: It is called with each bad row; None reports all of them and raises.

    Raises:
        DataError: For a row without a query or a valid question, and for fewer than five rows.
    """
    rows: list[tuple[str, list[str]]] = []
    with collected(on_bad) as bad:
        for number, row in json_lines(path, EXPECTED, bad):
            query, valid = row.get("query"), row.get("valid")
            texts = isinstance(valid, list) and all(isinstance(each, str) and each.strip() for each in valid)
            if not isinstance(query, str) or not query.strip() or not texts or not valid:
                bad(DataError(path, number, "the row lacks a query or its valid questions", f"write {EXPECTED}"), row)
                continue
            rows.append((query, [each.strip() for each in valid]))
    if len(rows) < LEAST:
        raise DataError(
            path, None, f"{len(rows)} rows, and {LEAST} are the fewest to split", f"write {EXPECTED} a line"
        )
    inventory = list(dict.fromkeys([*questions, *(each for _, valid in rows for each in valid)]))
    place = {question: f"question-{i}" for i, question in enumerate(inventory)}
    order = np.random.default_rng(seed).permutation(len(rows))
    fifth = max(1, len(rows) // 5)
    parts = {"dev": order[:fifth], "test": order[fifth : 2 * fifth], "train": order[2 * fifth :]}
    splits = {
        name: Split(
            name,
            {f"query-{i}": rows[i][0] for i in sorted(parts[name].tolist())},
            {f"query-{i}": {place[each]: 1 for each in rows[i][1]} for i in sorted(parts[name].tolist())},
            {f"query-{i}": dict.fromkeys(place.values(), 0.0) for i in sorted(parts[name].tolist())},
        )
        for name in ("train", "dev", "test")
    }
    return Collection("clarifications", list(place.values()), inventory, splits)


def read_questions(path: str | Path) -> list[str]:
    """Return the questions of a file, one per line; raise DataError where one stands there twice or none is there."""
    found: dict[str, int] = {}
    for number, line in lines(path):
        question = line.strip()
        if question in found:
            raise DataError(path, number, "the question stands there twice", f"it is in line {found[question]}, too")
        if question:
            found[question] = number
    if not found:
        raise DataError(path, None, "no question", "write one per line")
    return list(found)
