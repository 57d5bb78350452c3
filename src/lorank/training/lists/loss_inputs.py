"""What a loss requires beyond lists, and where it comes from: the lists, a run, or the untrained ranker.

``items`` are (query position << 32) + document position, ``lists`` query positions: alike at every epoch and in a
resumed run. A reference that no run gives is computed anew for each batch, without a gradient, by the same ranker in
evaluation mode with its adapter switched off and all that is trained whole (heads, or every weight) put back to
where it began; a first-stage score that the ranker stands on is in it too. So are the scores of the slow module that
:mod:`lorank.training.hooks.ofs_dpo` trains beside the run.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from lorank.data.candidates import TrainingList
from lorank.data.collection import Collection, Split
from lorank.data.trec import read_run
from lorank.errors import DataError, OnBad, UsageError
from lorank.ranking.losses import Loss, requirements_of
from lorank.ranking.scorers.ranker import TrainableRanker
from lorank.ranking.scorers.scoring_mode import scoring
from lorank.ranking.types import Run
from lorank.training.beginning import Beginning
from lorank.training.lists.batches import ListBatch
from lorank.training.lists.listwise import own_places


class Source(Protocol):
    """What the lists of a batch were drawn from."""

    collection: Collection
    split: Split
    candidates: Run | None
    reference: Run | None

    def draws_of(self, lists: Sequence[TrainingList], batch: ListBatch) -> Tensor:
        """Return how often each document was drawn as a negative, [batch, list]."""
        ...

    def opponent_scores(self, lists: Sequence[TrainingList], batch: ListBatch) -> Tensor:
        """Return the scores of the ranker that is trained against the run, [batch, list]."""
        ...


Maker = Callable[[Source, Sequence[TrainingList], ListBatch, int], Tensor | None]
"""It makes one extra input of a batch, None where only the ranker can say it."""


def _items(source: Source, lists: Sequence[TrainingList], batch: ListBatch, epoch: int) -> Tensor:
    return (batch.queries.unsqueeze(1) << 32) + batch.documents


def _users(source: Source, lists: Sequence[TrainingList], batch: ListBatch, epoch: int) -> Tensor:
    users = source.split.users
    if users is None:
        raise UsageError(
            f"the loss reads who asked, and the {source.split.name!r} split of "
            f'{source.collection.name!r} does not say; give each training row a "user"'
        )
    number = {user: i for i, user in enumerate(sorted(set(users.values())))}
    return torch.tensor([number[users[each.query_id]] for each in lists])


def _outside(source: Source, lists: Sequence[TrainingList], batch: ListBatch, epoch: int) -> Tensor:
    return ~(batch.mask & (batch.labels > 0)).any(1)


def _first_stage(source: Source, lists: Sequence[TrainingList], batch: ListBatch, epoch: int) -> Tensor:
    return grid_of_run(source.candidates or source.split.candidates or {}, source, lists, batch)


def _none(source: Source, lists: Sequence[TrainingList], batch: ListBatch, epoch: int) -> None:
    return None


def _reference(source: Source, lists: Sequence[TrainingList], batch: ListBatch, epoch: int) -> Tensor | None:
    return None if source.reference is None else grid_of_run(source.reference, source, lists, batch)


def _positions(source: Source, lists: Sequence[TrainingList], batch: ListBatch, epoch: int) -> Tensor:
    rows = []
    for each, documents in zip(lists, batch.documents.tolist()):
        if each.positions is not None:
            known = dict(zip(each.documents.tolist(), each.positions.tolist()))
        else:
            known = _ranks(source, each)
        rows.append([known.get(document, 0) for document in documents])
    return torch.tensor(rows, dtype=torch.int64).view(batch.documents.shape)


def _ranks(source: Source, drawn: TrainingList) -> dict[int, int]:
    """Return the rank at the first stage of each document of a list; what it missed comes after the last."""
    row = (source.candidates or source.split.candidates or {}).get(drawn.query_id, {})
    place = source.collection.position
    ranked = {place[document]: rank for rank, document in enumerate(sorted(row, key=lambda d: -row[d]), start=1)}
    return {int(document): ranked.get(int(document), len(row) + 1) for document in drawn.documents}


def _propensities(source: Source, lists: Sequence[TrainingList], batch: ListBatch, epoch: int) -> Tensor:
    rows = []
    for each, documents in zip(lists, batch.documents.tolist()):
        stated = [] if each.propensities is None else each.propensities.tolist()
        known = dict(zip(each.documents.tolist(), stated))
        rows.append([known.get(document, 0.0) for document in documents])
    return torch.tensor(rows, dtype=torch.float32).view(batch.documents.shape)


def _columns(source: Source, lists: Sequence[TrainingList], batch: ListBatch, epoch: int) -> Tensor:
    made = torch.full((len(lists), max(map(len, lists))), -1, dtype=torch.int64)
    for row, (each, documents) in enumerate(zip(lists, batch.documents.numpy())):
        made[row, : len(each)] = torch.from_numpy(_places(documents[: batch.mask.shape[1]], each.documents))
    return made


def _places(documents: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return where each of ``wanted`` first stands among ``documents``, int64."""
    order = np.argsort(documents, kind="stable")
    return order[np.searchsorted(documents, wanted, sorter=order)]


def _shown_at(drawn: TrainingList) -> np.ndarray:
    """Return how often each document stood at each position, [n, k]; what is judged was looked at, as position 1 is."""
    return np.ones((len(drawn), 1), np.float32) if drawn.shown_at is None else drawn.shown_at


def _clicked_at(drawn: TrainingList) -> np.ndarray:
    """Return the clicks of each document at each position, [n, k]; labels where it is judged."""
    return drawn.labels[:, None] if drawn.clicked_at is None else drawn.clicked_at


def _by_position(table: Callable[[TrainingList], np.ndarray]) -> Maker:
    """Return a maker of what lists hold for each document and position, padded with 0 to [batch, n, k]."""

    def make(source: Source, lists: Sequence[TrainingList], batch: ListBatch, epoch: int) -> Tensor:
        rows = [table(each) for each in lists]
        made = torch.zeros(len(rows), max(row.shape[0] for row in rows), max(row.shape[1] for row in rows))
        for at, row in enumerate(rows):
            made[at, : row.shape[0], : row.shape[1]] = torch.from_numpy(row)
        return made

    return make


MAKERS: dict[str, Maker] = {
    "items": _items,
    "users": _users,
    "first_stage": _first_stage,
    "reference": _reference,
    "outside": _outside,
    "positions": _positions,
    "propensities": _propensities,
    "columns": _columns,
    "shown_at": _by_position(_shown_at),
    "clicked_at": _by_position(_clicked_at),
    "slow": _none,
    "noise_seed": _none,
    "representations": _none,
    "head": _none,
    "listwise": lambda source, lists, batch, epoch: own_places(lists, batch),
    "lists": lambda source, lists, batch, epoch: batch.queries,
    "draws": lambda source, lists, batch, epoch: source.draws_of(lists, batch),
    "opponent": lambda source, lists, batch, epoch: source.opponent_scores(lists, batch),
    "epoch": lambda source, lists, batch, epoch: torch.tensor(float(epoch)),
}
"""Each thing that a loss may require, and how it is made of a batch; None where the ranker itself must say."""

OF_THE_HEAD = "representations"
"""What a ranker's linear head reads, which comes with the scores."""

OF_THE_RANKER = frozenset({"reference", "slow"})
"""What only the ranker can say: its scores within the context that it opens under this name."""


def grid_of_run(run: Run, source: Source, lists: Sequence[TrainingList], batch: ListBatch) -> Tensor:
    """Return a run's scores of a batch, float32 [batch, list]; a document that a row lacks has the row's lowest.

    Args:
        run: The scores, by query and document id.
        source: What the lists were drawn from, which gives the documents' ids.
        lists: The lists of the batch, in order.
        batch: The same lists as a grid [batch, list] of positions.
    """
    names, rows = source.collection.document_ids, []
    for each, documents in zip(lists, batch.documents.tolist()):
        scores = run.get(each.query_id, {})
        lowest = min(scores.values(), default=0.0)
        rows.append([scores.get(names[document], lowest) for document in documents])
    return torch.tensor(rows, dtype=torch.float32).view(batch.documents.shape)


def reference_run(path: str, split: Split, on_bad: OnBad | None = None) -> Run | None:
    """Return the run that serves as the reference, None for "start"; raise DataError where it lacks a query."""
    if path == "start":
        return None
    if not Path(path).is_file():
        raise UsageError(f"the reference {path} is no run file; give a run, or 'start' for the ranker before training")
    run = read_run(path, on_bad=on_bad)
    missing = [query for query in split.queries if query not in run]
    if missing:
        raise DataError(
            path,
            None,
            f"the run lacks {len(missing)} training queries, e.g. {missing[0]!r}",
            "write it over all of them with `lorank rerank`",
        )
    return run


def make_extras(
    requires: frozenset[str], source: Source, lists: Sequence[TrainingList], batch: ListBatch, epoch: int
) -> dict[str, Tensor]:
    """Return what a loss requires of a batch, less what only the ranker can say.

    Args:
        requires: The extra inputs that the loss takes, each a name in ``MAKERS``.
        source: What the lists were drawn from.
        lists: The lists of the batch, in order.
        batch: The same lists as a grid [batch, list] of positions.
        epoch: The number of the epoch, counted from 0.
    """
    made = {name: MAKERS[name](source, lists, batch, epoch) for name in sorted(requires)}
    return {name: value for name, value in made.items() if value is not None}


def extras_for(
    loss: Loss,
    ranker: TrainableRanker,
    inputs: Any,
    batch: ListBatch,
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Mapping[str, Tensor]:
    """Return all that ``loss`` requires of a batch; call it before the ranker's own pass, to keep its graph whole.

    Args:
        loss: The loss, which says what it requires.
        ranker: The ranker that gives reference scores where no run does.
        inputs: The texts as ``ranker.prepare`` returned them.
        batch: The lists as a grid [batch, list], with the extras that they brought.
        precision: It opens the context in which the ranker scores, such as autocast.
    """
    given = dict(batch.extras)
    for name in OF_THE_RANKER & requirements_of(loss) - given.keys():
        with getattr(ranker, name, nullcontext)(), scoring(ranker.module), precision():
            scores = ranker.forward(inputs, batch.queries, batch.documents, batch.mask).float()
        given[name] = scores.clone() if batch.first_stage is None else scores + batch.first_stage
    return given


def set_reference(ranker: TrainableRanker, beginning: Beginning, loss: Loss) -> None:
    """Let ``ranker.reference`` be the ranker as it was before training.

    Raises UsageError for a score that is relative to a reference where no adapter can be switched off.
    """
    if beginning.adapter is None and getattr(ranker, "view", None) == "log-ratio":
        raise UsageError(
            "a log-ratio needs the model as it was before training: choose a low-rank adapter, which is "
            "switched off for that, or view='head'"
        )
    if beginning.adapter is not None or "reference" in requirements_of(loss):
        ranker.reference = beginning.restored
