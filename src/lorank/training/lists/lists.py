"""Training lists drawn anew each epoch from first-stage candidates, as a pure function of (seed, epoch)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from lorank.data.candidates import TrainingList, training_lists
from lorank.data.collection import Collection, Split
from lorank.errors import UsageError
from lorank.ranking.types import Run
from lorank.training.lists.batches import ListBatch, Route, epoch_order, pad_lists, share_documents
from lorank.training.lists.loss_inputs import make_extras
from lorank.training.lists.teacher import labelled_by


@dataclass
class CandidateLists:
    """The training queries, each with its judged documents and drawn negatives.

    ``query_at`` maps query id to its position in the ranker's prepared inputs; ``first_stage`` holds
    standardised first-stage scores where the correction is trained on top of them. ``requires`` is what the loss
    takes beyond lists, and ``reference`` a run whose scores serve it as the reference; ``routes`` is what an
    adapter that routes is given for each query, and ``teacher`` holds scores that stand in the place of labels;
    ``opponent`` scores a grid of pairs, for a loss that learns against it.
    """

    collection: Collection
    split: Split
    candidates: Run | None
    query_at: dict[str, int]
    positives: int | None
    negatives: int | None
    spare: float | None
    share: bool
    seed: int
    first_stage: Run | None = None
    requires: frozenset[str] = frozenset()
    reference: Run | None = None
    routes: Mapping[str, Route] | None = None
    teacher: Run | None = None
    opponent: Callable[[ListBatch], Tensor] | None = None
    _drawn: tuple[int, Sequence[TrainingList]] | None = field(default=None, init=False, repr=False)
    _relevant: dict[str, frozenset[int]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        position = self.collection.position
        for query, judged in self.split.qrels.items():
            self._relevant[query] = frozenset(position[d] for d, grade in judged.items() if grade > 0)

    def epoch(self, epoch: int) -> Sequence[TrainingList]:
        """Return the lists of an epoch in the order in which they are seen."""
        if self._drawn is None or self._drawn[0] != epoch:
            rng = np.random.default_rng([self.seed, epoch, 1])
            drawn = training_lists(
                self.split,
                self.collection,
                self.candidates,
                positives=self.positives,
                negatives=self.negatives,
                spare=self.spare,
                empty="outside" in self.requires,
                rng=rng,
            )
            if not drawn:
                raise UsageError(
                    f"no query of the split {self.split.name!r} of {self.collection.name!r} has a relevant document (a "
                    "judgment above 0), so there is nothing to learn from"
                )
            placed = [replace(each, first_stage=self._first_stage_of(each)) for each in drawn]
            if self.teacher is not None:
                ids = self.collection.document_ids
                placed = [labelled_by(self.teacher, each, [ids[d] for d in each.documents]) for each in placed]
            order = epoch_order(len(placed), epoch, self.seed)
            self._drawn = epoch, [placed[i] for i in order]
        return self._drawn[1]

    def collate(self, lists: Sequence[TrainingList]) -> ListBatch:
        """Lay the lists out as one grid, sharing documents where asked, with what the loss requires of them."""
        if self.share:
            batch = share_documents(lists, self.query_at, self._relevant)
        else:
            batch = pad_lists(lists, self.query_at)
        epoch = 0 if self._drawn is None else self._drawn[0]
        return replace(
            batch,
            weights=self._weights(lists),
            extras=make_extras(self.requires, self, lists, batch, epoch),
            routes=None if self.routes is None else [self.routes.get(each.query_id, Route()) for each in lists],
        )

    def draws_of(self, lists: Sequence[TrainingList], batch: ListBatch) -> Tensor:
        """Return how often each document was drawn as a negative, float32 [batch, list]: once."""
        return (batch.mask & (batch.labels <= 0)).float()

    def opponent_scores(self, lists: Sequence[TrainingList], batch: ListBatch) -> Tensor:
        """Return the opponent's scores [batch, list] of what is relevant or drawn, 0 elsewhere; 0 where there is none.

        Until a plan is made no opponent is there, and what is measured of a step then is the run's own part.
        """
        if self.opponent is None:
            return torch.zeros(batch.mask.shape)
        read = batch.mask & ((batch.labels > 0) | (self.draws_of(lists, batch) > 0))
        return self.opponent(replace(batch, mask=read))

    def _weights(self, lists: Sequence[TrainingList]) -> Tensor | None:
        weights = self.split.weights
        return None if weights is None else torch.tensor([weights.get(each.query_id, 1.0) for each in lists])

    def _first_stage_of(self, drawn: TrainingList) -> np.ndarray | None:
        """Return first-stage scores of the documents; one that the first stage missed gets the list's lowest."""
        if self.first_stage is None:
            return None
        row = self.first_stage.get(drawn.query_id, {})
        lowest = min(row.values(), default=0.0)
        names = self.collection.document_ids
        return np.array([row.get(names[d], lowest) for d in drawn.documents], np.float32)
