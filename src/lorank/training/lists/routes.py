"""Which task each training list is of, and which preference it is trained for: given to the routers of an adapter.

A batch is scored once for every different route in it, each under its own context of `lorank.lowrank.routing`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lorank.data.collection import Split
from lorank.errors import UsageError
from lorank.lowrank.presets import preset
from lorank.lowrank.routing import context
from lorank.ranking.scorers.ranker import TrainableRanker
from lorank.training.lists.batches import ListBatch, Route
from lorank.training.settings import AdapterSettings
from lorank.training.weights import WHOLE

ROUTED_BY = {"mhr": "task", "palora": "preference"}
"""Forms that read a column of the data, and which."""


class Routes(NamedTuple):
    """The ``column`` that a run routes by, and the ``names`` of its tasks."""

    column: str
    names: tuple[str, ...] = ()

    def of(self, split: Split) -> dict[str, Route]:
        """Return the route of each query of ``split``; those whose task was not trained on have none."""
        if self.column != "preference":
            place = {name: i for i, name in enumerate(self.names)}
            return {q: Route(task=place[name]) for q, name in tasks_of(split)[1].items() if name in place}
        return {q: Route(preference=tuple(values)) for q, values in (split.preferences or {}).items()}


def read_routes(adapter: AdapterSettings, split: Split) -> tuple[AdapterSettings, Routes | None]:
    """Return the adapter with its number of tasks, and the routes that the data gives it.

    An adapter that does not route, and data without the column, have no routes: all rows are then one task, and all
    preferences even.

    Raises:
        UsageError: naming the column, where some rows lack it, where rows have different numbers of aims, and where
            ``adapter.options.tasks`` is stated and does not fit.
    """
    column = None if adapter.name in (*WHOLE, "auto") else ROUTED_BY.get(preset(adapter.name).form)
    if column is None:
        return adapter, None
    given: Mapping[str, object] = split.preferences or {}
    if column == "task":
        column, given = tasks_of(split)
    if not given:
        return adapter, None
    lacking = [query for query in split.queries if query not in given]
    if lacking:
        raise UsageError(
            f"adapter {adapter.name!r} routes by the column {column!r}, which {len(lacking)} of {len(split.queries)} "
            f"rows lack (the first: {lacking[0]}); give every row one, or none"
        )
    if column != "preference":
        names = tuple(sorted(set(tasks_of(split)[1].values())))
        shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
        return _with_tasks(adapter, column, len(names), f"{len(names)} tasks ({shown})"), Routes(column, names)
    sizes = {len(values) for values in (split.preferences or {}).values()}
    if len(sizes) > 1:
        raise UsageError(
            f"the column 'preference' has lists of {min(sizes)} and of {max(sizes)} numbers; give every row as many"
        )
    count = sizes.pop()
    return _with_tasks(adapter, column, count, f"{count} numbers a row"), Routes(column)


def tasks_of(split: Split) -> tuple[str, dict[str, str]]:
    """Return the column that names tasks, "task" or else "group", and the task of each query."""
    return ("task", split.tasks) if split.tasks else ("group", split.groups or {})


def _with_tasks(adapter: AdapterSettings, column: str, count: int, what: str) -> AdapterSettings:
    stated = adapter.options.get("tasks")
    fits = stated is None or stated == count or (column != "preference" and isinstance(stated, int) and stated > count)
    if not fits:
        raise UsageError(
            f"the column {column!r} has {what}, and adapter.options.tasks is {stated}; set it to {count}, or leave it "
            "out"
        )
    return adapter if stated is not None else replace(adapter, options={**adapter.options, "tasks": count})


def score_batch(ranker: TrainableRanker, inputs: Any, batch: ListBatch) -> Tensor:
    """Return the scores [batch, list], each list scored on its own route."""
    if batch.routes is None:
        return ranker.forward(inputs, batch.queries, batch.documents, batch.mask)
    parts, order = [], []
    for route, rows in _rows_by_route(batch.routes).items():
        at = torch.tensor(rows, device=batch.queries.device)
        with context(route.task, route.preference):
            parts.append(ranker.forward(inputs, batch.queries[at], batch.documents[at], batch.mask[at]))
        order += rows
    back = torch.tensor(order, device=batch.queries.device).argsort()
    return torch.cat(parts)[back]


def _rows_by_route(routes: Sequence[Route]) -> dict[Route, list[int]]:
    """Return the rows of each route, in the order in which routes first appear.

    >>> _rows_by_route([Route(1), Route(0), Route(1)])
    {Route(task=1, preference=None): [0, 2], Route(task=0, preference=None): [1]}
    """
    rows: dict[Route, list[int]] = {}
    for row, route in enumerate(routes):
        rows.setdefault(route, []).append(row)
    return rows
