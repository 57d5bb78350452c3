"""Budgets that start small and hand out ranks, a few at each event, to the layers of highest importance."""

from abc import abstractmethod
from collections.abc import Mapping

from lorank.errors import UsageError
from lorank.lowrank.budgets.core.budget import Budget, Timetable, hand_out
from lorank.lowrank.forms.gated import Gated


class Growing(Budget):
    """Grows from one rank a layer to ``total``; subclasses say where and how.

    Args:
        forms: gated forms that start with one component on.
        total: ranks at the end, at least one a layer.
        timetable: events.
        seed: of new components.
    """

    def __init__(self, forms: Mapping[str, Gated], total: int, timetable: Timetable, *, seed: int = 0) -> None:
        super().__init__(forms, total, timetable, seed=seed)
        self.start = sum(min(1, form.components) for form in self.forms.values())
        if total < self.start:
            raise UsageError(f"a total of {total} ranks is below one for each of {self.start} layers")

    @abstractmethod
    def layer_importance(self) -> dict[str, float]:
        """Return how much each layer matters."""

    def planned_total(self, step: int, steps: int) -> int:
        events = self.timetable.events(steps)
        done = sum(event <= step for event in events)
        return self.start + round((self.total - self.start) * done / len(events))

    def event(self, step: int, steps: int) -> None:
        ranks = self.ranks()
        free = {path: form.components - ranks[path] for path, form in self.forms.items()}
        wanted = self.planned_total(step, steps) - sum(ranks.values())
        for path, count in hand_out(self.layer_importance(), free, wanted).items():
            for _ in range(count):
                self.grow(path, step)

    def grow(self, path: str, step: int) -> None:
        """Turn on one more component of a layer, which adds nothing yet."""
        form = self.forms[path]
        form.renew(int((~form.on).nonzero()[0]), step)
