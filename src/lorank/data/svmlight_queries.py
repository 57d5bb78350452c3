"""The queries of a LETOR file's rows: by their ``qid:``, or by LightGBM's row counts in a second file."""

import re
from pathlib import Path

import numpy as np

from lorank.data.files import decode, lines
from lorank.data.svmlight_blocks import LAYOUT
from lorank.errors import DataError, OnBad
from lorank.reading import ENDINGS, plain_name, short

_COUNT = re.compile(r"\d{1,15}", re.ASCII)


def groups_file(path: str | Path) -> Path | None:
    """Return LightGBM's row-count file beside ``path`` (``rank.train`` has ``rank.train.query``), if there is one."""
    path = Path(path)
    stem = plain_name(path)
    found = [beside for end in ("", *ENDINGS) if (beside := path.with_name(f"{stem}.query{end}")).is_file()]
    return found[0] if found else None


def group_by_query(
    path: Path, queries: list[bytes | None], numbers: np.ndarray, on_bad: OnBad
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return the query ids in order of the file, where their rows begin among the good rows, and which rows are good.

    A row without a query, and the rows of a query that comes back, are reported.
    """
    starts: list[int] = []
    ids: list[str] = []
    seen: dict[bytes, int] = {}
    good = np.ones(len(queries), bool)
    previous: bytes | None = None
    for i, query in enumerate(queries):
        if query == previous and query is not None:
            continue
        if query is None or query in seen:
            good[i] = False
            line = int(numbers[i])
            on_bad(_no_query(path, line) if query is None else _comes_back(path, line, query, seen[query]), query)
            continue
        if previous is not None:
            seen[previous] = int(numbers[i])
        ids.append(decode(query, path, int(numbers[i])))
        starts.append(i)
        previous = query
    starts_among_good = np.concatenate([[0], np.cumsum(good)])[[*starts, len(queries)]]
    return ids, starts_among_good.astype(np.int64), good


def _no_query(path: Path, line: int) -> DataError:
    remedy = f"{LAYOUT}; or put the queries' row counts beside it in {plain_name(path)}.query"
    return DataError(path, line, "there is no qid:<id> after the label", remedy)


def _comes_back(path: Path, line: int, query: bytes, left: int) -> DataError:
    problem = f"query {decode(query, path, line)!r} was left at line {left} and comes back"
    return DataError(path, line, problem, "sort the file so that the rows of a query are contiguous")


def group_by_counts(
    path: Path, groups: Path, numbers: np.ndarray, bad: list[int], on_bad: OnBad
) -> tuple[list[str], np.ndarray]:
    """Return query ids 1, 2, ... and offsets from a LightGBM ``.query`` file of row counts.

    The counts are of all rows, those at the lines ``bad`` too; a query all of whose rows are bad is left out.
    """
    sizes = []
    for line, text in lines(groups, on_bad):
        if not _COUNT.fullmatch(text.strip()) or int(text) == 0:
            problem = f"{short(text.strip())} is not a number of rows"
            on_bad(DataError(groups, line, problem, "write one whole number above 0 a line"), text)
            continue
        sizes.append(int(text))
    rows = len(numbers) + len(bad)
    if sum(sizes) != rows:
        raise DataError(
            groups,
            None,
            f"its row counts add up to {sum(sizes)}, but {path.name} has {rows} rows",
            "make the two files agree",
        )
    at = np.searchsorted(np.sort(bad), numbers) + np.arange(len(numbers))  # places of good rows among all
    offsets = np.searchsorted(at, np.concatenate([[0], np.cumsum(sizes)])).astype(np.int64)
    kept = np.flatnonzero(np.diff(offsets))
    return [str(i + 1) for i in kept], np.concatenate([[0], offsets[kept + 1]]).astype(np.int64)


def name_documents(
    path: Path, queries: list[str], offsets: np.ndarray, named: list[bytes | None], numbers: np.ndarray
) -> list[str]:
    """Return each row's document id: the query's and the comment's, or its number where a row of the query has none."""
    ids: list[str] = []
    for query, start, stop in zip(queries, offsets[:-1].tolist(), offsets[1:].tolist()):
        names = named[start:stop]
        if None in names or len(set(names)) < len(names):
            ids.extend(f"{query}:{row}" for row in range(1, stop - start + 1))
        else:
            ids.extend(
                f"{query}:{decode(name, path, int(numbers[start + i]))}"  # type: ignore[arg-type]
                for i, name in enumerate(names)
            )
    return ids
