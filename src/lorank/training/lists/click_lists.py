"""Training lists from a click log: one list for each shown list that somebody clicked in."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lorank.data.candidates import TrainingList
from lorank.data.click_logs.packed import PackedImpressions
from lorank.errors import UsageError
from lorank.training.lists.batches import epoch_order
from lorank.training.lists.lists import CandidateLists


@dataclass
class ClickLists(CandidateLists):
    """The impressions of the split, each with its clicks, in another order at each epoch; nothing is drawn."""

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
            order = epoch_order(len(numbers), epoch, self.seed)
            self._drawn = epoch, _LazyLists(self, log, numbers[order])
        return self._drawn[1]

    def list_of(self, log: PackedImpressions, number: int) -> TrainingList:
        """Return one impression as a training list, with the first stage's scores where the ranker stands on them."""
        found = log.list_at(number)
        made = TrainingList(
            found.query_id,
            found.documents,
            found.labels,
            positions=found.positions,
            propensities=found.propensities,
        )
        return replace(made, first_stage=self._first_stage_of(made))


class _LazyLists(Sequence[TrainingList]):
    """Lists that are made when they are asked for, so that a log of millions of lists stays packed."""

    def __init__(self, source: ClickLists, log: PackedImpressions, numbers: np.ndarray) -> None:
        self.source, self.log, self.numbers = source, log, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, at: Any) -> Any:
        """Return one list, or those of a slice."""
        if isinstance(at, slice):
            return [self.source.list_of(self.log, int(number)) for number in self.numbers[at]]
        return self.source.list_of(self.log, int(self.numbers[at]))
