"""The values of one collection as arrays: the queries that every row was judged on, in the same order for all."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lorank.compare.results import ExperimentResult, RowResult
from lorank.errors import UsageError
from lorank.ranking.metrics.groups import membership


@dataclass(frozen=True)
class JudgedValues:
    """The rows of one collection on the queries that they share.

    Attributes:
        data: The name of the collection.
        queries: The shared queries.
        member: The group of each query, int64 [queries], from 0.
        rows: The rows that have a result, by name.
        failed: The rows that have none, and why.
        notes: Sentences that a reader needs, such as that queries were left out.
    """

    data: str
    queries: tuple[str, ...]
    member: npt.NDArray[np.int64]
    rows: Mapping[str, RowResult]
    failed: Mapping[str, str]
    notes: tuple[str, ...] = ()

    @property
    def groups(self) -> int:
        """The number of independent groups."""
        return len(np.unique(self.member))

    def values(self, row: str, measure: str) -> npt.NDArray[np.float64]:
        """Return the values of a row, [queries, seeds]."""
        trials = [trial.test[measure] for trial in self.rows[row].trials]
        return np.array([[trial[query] for trial in trials] for query in self.queries], dtype=np.float64)


def collections_of(result: ExperimentResult) -> list[str]:
    """Return the names of the collections in the order of the rows."""
    return list(dict.fromkeys(row.data for row in result.rows))


def gather_values(result: ExperimentResult, data: str) -> JudgedValues:
    """Return the values of the rows of one collection.

    Args:
        result: The experiment.
        data: The name of the collection.

    Raises:
        UsageError: for two rows of one name, a trial that lacks a measure, a value that is not finite, a query without
            a group, or rows that share no query.
    """
    mine = [row for row in result.rows if row.data == data]
    _refuse_twins([row.name for row in mine], f"rows of {data}")
    rows = {row.name: row for row in mine if row.failed is None and row.trials}
    failed = {row.name: row.failed or "no trial was judged" for row in mine if row.name not in rows}
    for row in rows.values():
        _check_row(row, result.measures)
    queries, notes = _shared_queries(list(rows.values()), result.measures, data)
    groups = result.groups.get(data)
    if groups is None and queries:
        notes.append(f"{data} came without groups: each query counts as independent of the others.")
    member = membership(groups or {query: query for query in queries}, queries) if queries else np.zeros(0, np.int64)
    return JudgedValues(data, tuple(queries), member, rows, failed, tuple(notes))


def _refuse_twins(names: Sequence[object], what: str) -> None:
    twins = [name for name in names if names.count(name) > 1]
    if twins:
        raise UsageError(f"{twins[0]!r} stands twice among the {what}; give each its own")


def _check_row(row: RowResult, measures: Sequence[str]) -> None:
    _refuse_twins([trial.seed for trial in row.trials], f"seeds of row {row.name!r} on {row.data}")
    for trial in row.trials:
        where = f"row {row.name!r} on {row.data}, seed {trial.seed}"
        for measure in measures:
            if measure not in trial.test:
                raise UsageError(f"{where} lacks {measure}; judge every trial on the same measures")
            for query, value in trial.test[measure].items():
                if not math.isfinite(value):
                    raise UsageError(f"{where}: {measure} of query {query!r} is {value}; judge the row again")


def _shared_queries(rows: list[RowResult], measures: Sequence[str], data: str) -> tuple[list[str], list[str]]:
    """Return the queries that every trial of every row has, in the order of the first, and what was left out."""
    if not rows:
        return [], []
    held = [(row.name, trial.test[measure].keys()) for row in rows for trial in row.trials for measure in measures]
    common = set(held[0][1]).intersection(*(keys for _, keys in held[1:]))
    union = set().union(*(keys for _, keys in held))
    fewest, keys = min(held, key=lambda pair: len(pair[1]))
    if not common:
        raise UsageError(
            f"the rows of {data} share no judged query, {fewest!r} has {len(keys)}; judge all on one split"
        )
    notes = []
    if len(common) < len(union):
        notes.append(
            f"The rows of {data} were not judged on the same queries: the {len(common)} of {len(union)} that all of "
            f"them have are compared; the fewest, {len(keys)}, are those of {fewest}."
        )
    return [query for query in held[0][1] if query in common], notes
