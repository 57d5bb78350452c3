"""Budgets that start with more ranks than they end with: score every component, keep the best, on a cubic schedule."""

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from lorank.lowrank.budgets.core.budget import Budget


def cubic_decay(start: int, end: int, passed: float) -> int:
    """Return end + (start - end) (1 - passed)^3, rounded: steep at first, flat at the end.

    >>> [cubic_decay(12, 4, x) for x in (0, 0.5, 1)]
    [12, 5, 4]
    """
    return end + round((start - end) * (1 - passed) ** 3)


def keep_best(scores: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """Return, by path, which components are among the ``count`` of highest score; ties go to the first.

    >>> keep_best({"a": torch.tensor([1.0, 3.0]), "b": torch.tensor([2.0])}, 2)
    {'a': tensor([False,  True]), 'b': tensor([True])}
    """
    flat = torch.cat(list(scores.values()))
    kept = torch.zeros_like(flat, dtype=torch.bool)
    kept[torch.sort(flat, descending=True, stable=True).indices[:count]] = True
    return dict(zip(scores, kept.split([len(row) for row in scores.values()]), strict=True))


class Pruning(Budget):
    """Keeps the components of highest ``importance``, their number falling from all to ``total``."""

    growth_change = None

    @abstractmethod
    def importance(self) -> dict[str, Tensor]:
        """Return a score [R] of each layer's components."""

    def planned_total(self, step: int, steps: int) -> int:
        events = [event for event in self.timetable.events(steps) if event <= step]
        start = sum(form.components for form in self.forms.values())
        return cubic_decay(start, self.total, self.timetable.passed_share(events[-1], steps) if events else 0.0)

    def event(self, step: int, steps: int) -> None:
        for path, kept in keep_best(self.importance(), self.planned_total(step, steps)).items():
            self.switch(path, kept)

    def switch(self, path: str, kept: Tensor) -> None:
        """Turn on exactly the components ``kept`` of a layer."""
        self.forms[path].switch(kept)
