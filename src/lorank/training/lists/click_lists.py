"""Training lists from a click log: one list for each shown list that somebody clicked in, or one for many of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lorank.data.candidates import TrainingList
from lorank.data.click_logs.packed import PackedImpressions, PackedList
from lorank.errors import UsageError
from lorank.training.lists.batches import epoch_order
from lorank.training.lists.folded_clicks import FoldedLog, fold_log
from lorank.training.lists.lists import CandidateLists


@dataclass
class ClickLists(CandidateLists):
    """The impressions of the split, each with its clicks, in another order at each epoch.

    With ``negatives`` there is one list for each click instead: the clicked document and so many of the others that the
    impression showed, drawn evenly and anew each epoch, whether they were clicked or not; they count as not clicked. A
    softmax over such a part has the same minimum as one over the whole list (McFadden 1978, uniform conditioning), so
    that ranker and propensities learn the same from fewer documents. With 0 the documents of other lists of the batch
    are the only contrast, from which no propensity is learned.

    About ``impressions`` of a query follow each other, so that a batch encodes their query and documents once and
    learns from all their clicks: what a text costs to read is then shared by so many lists, and the noise of single
    clicks is less. With ``folded`` all of a query that show the same documents are one list
    (`lorank.training.lists.folded_clicks`).
    """

    impressions: int = 1
    folded: bool = False
    _fold: FoldedLog | None = field(default=None, init=False, repr=False)

    def epoch(self, epoch: int) -> Sequence[TrainingList]:
        """Return the lists of an epoch in the order in which they are seen."""
        if self._drawn is None or self._drawn[0] != epoch:
            log = self.split.impressions
            assert log is not None
            numbers = np.arange(len(log)) if "outside" in self.requires else log.with_clicks()
            if not len(numbers):
                raise UsageError(
                    f"no list of the log of {self.collection.name!r} has a document that was clicked beside one that "
                    "was not, so there is nothing to learn from"
                )
            if self.folded:
                self._fold = fold_log(log) if self._fold is None else self._fold
                numbers = self._fold.epoch_numbers
            elif self._by_click:
                numbers = _clicks_in(log, numbers)
            numbers = numbers[epoch_order(len(numbers), epoch, self.seed)]
            if self.impressions > 1 and not self.folded:
                asked = log.queries[self._impression_of(log, numbers)]
                numbers = numbers[_together(asked, self.impressions, np.random.default_rng([self.seed, epoch, 2]))]
            self._drawn = epoch, _LazyLists(self, log, numbers, epoch)
        return self._drawn[1]

    @property
    def _by_click(self) -> bool:
        """Whether a list is one click with a part of its impression, in place of an impression."""
        return self.negatives is not None and "outside" not in self.requires

    def _impression_of(self, log: PackedImpressions, numbers: np.ndarray) -> np.ndarray:
        """Return the impressions that lists stand for, which are clicks where each click has a list of its own."""
        return np.searchsorted(log.offsets, numbers, side="right") - 1 if self._by_click else numbers

    def list_of(self, log: PackedImpressions, number: int, epoch: int) -> TrainingList:
        """Return one impression, or one click with a part of its impression, as a training list, with the first
        stage's scores where the ranker stands on them."""
        if self._fold is not None:
            made = self._fold.list_at(number)
            return replace(made, first_stage=self._first_stage_of(made))
        if self._by_click:
            found = _part_around(log, number, self.negatives or 0, np.random.default_rng([self.seed, epoch, number]))
        else:
            found = log.list_at(number)
        made = TrainingList(
            found.query_id,
            found.documents,
            found.labels,
            positions=found.positions,
            propensities=found.propensities,
        )
        return replace(made, first_stage=self._first_stage_of(made))


def _clicks_in(log: PackedImpressions, numbers: np.ndarray) -> np.ndarray:
    """Return the entries of the log that are clicks of the impressions ``numbers``, int64."""
    wanted = np.zeros(len(log), bool)
    wanted[numbers] = True
    return np.flatnonzero((log.labels > 0) & np.repeat(wanted, np.diff(log.offsets)))


def _together(queries: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return an order of lists in which about ``size`` of a query follow each other, int64 [n].

    >>> order = _together(np.array([0, 1, 0, 1, 0, 0]), 2, np.random.default_rng(0))
    >>> np.array([0, 1, 0, 1, 0, 0])[order].tolist()
    [0, 0, 1, 1, 0, 0]
    """
    by_query = np.argsort(queries, kind="stable")
    _, begins, counts = np.unique(queries[by_query], return_index=True, return_counts=True)
    parts = np.maximum(1, np.round(counts / size)).astype(np.int64)
    place = np.arange(len(queries)) - np.repeat(begins, counts)
    part = place * np.repeat(parts, counts) // np.repeat(counts, counts)
    number = part + np.repeat(np.cumsum(parts) - parts, counts)
    return by_query[np.argsort(rng.permutation(parts.sum())[number], kind="stable")]


def _part_around(log: PackedImpressions, entry: int, negatives: int, rng: np.random.Generator) -> PackedList:
    """Return the document of an entry and others of its impression, in their order; the others count as not
    clicked."""
    number = int(np.searchsorted(log.offsets, entry, side="right")) - 1
    found = log.list_at(number)
    own = entry - int(log.offsets[number])
    others = np.delete(np.arange(len(found.labels)), own)
    drawn = rng.choice(others, min(negatives, len(others)), replace=False)
    kept = np.sort(np.append(drawn, own))
    labels = np.where(kept == own, found.labels[kept], 0.0).astype(np.float32)
    chances = None if found.propensities is None else found.propensities[kept]
    return PackedList(found.query_id, found.documents[kept], labels, found.positions[kept], chances)


class _LazyLists(Sequence[TrainingList]):
    """Lists that are made when they are asked for, so that a log of millions of lists stays packed."""

    def __init__(self, source: ClickLists, log: PackedImpressions, numbers: np.ndarray, epoch: int) -> None:
        self.source, self.log, self.numbers, self.epoch = source, log, numbers, epoch

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, at: Any) -> Any:
        """Return one list, or those of a slice."""
        if isinstance(at, slice):
            return [self.source.list_of(self.log, int(number), self.epoch) for number in self.numbers[at]]
        return self.source.list_of(self.log, int(self.numbers[at]), self.epoch)
