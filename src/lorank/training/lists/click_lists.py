"""Training lists from a click log: one list for each shown list that somebody clicked in."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lorank.data.candidates import TrainingList
from lorank.data.click_logs.packed import PackedImpressions, PackedList
from lorank.errors import UsageError
from lorank.training.lists.batches import epoch_order
from lorank.training.lists.lists import CandidateLists


@dataclass
class ClickLists(CandidateLists):
    """The impressions of the split, each with its clicks, in another order at each epoch.

    With ``negatives`` there is one list for each click instead: the clicked document and so many of the others that the
    impression showed, drawn evenly and anew each epoch, whether they were clicked or not; they count as not clicked. A
    softmax over such a part has the same minimum as one over the whole list (McFadden 1978, uniform conditioning), so
    that ranker and propensities learn the same from fewer documents. With 0 the documents of other lists of the batch
    are the only contrast, from which no propensity is learned.
    """

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
            if self.negatives is not None and "outside" not in self.requires:
                numbers = _clicks_in(log, numbers)
            order = epoch_order(len(numbers), epoch, self.seed)
            self._drawn = epoch, _LazyLists(self, log, numbers[order], epoch)
        return self._drawn[1]

    def list_of(self, log: PackedImpressions, number: int, epoch: int) -> TrainingList:
        """Return one impression, or one click with a part of its impression, as a training list, with the first
        stage's scores where the ranker stands on them."""
        if self.negatives is None or "outside" in self.requires:
            found = log.list_at(number)
        else:
            found = _part_around(log, number, self.negatives, np.random.default_rng([self.seed, epoch, number]))
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
