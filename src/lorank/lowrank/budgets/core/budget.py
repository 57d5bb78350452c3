r"""The contract of every budget: how many ranks each layer gets, before training or during it.

A *static* budget maps (sites, statistics, total) to ranks by layer path, before any form is built. A *dynamic* budget
is called by the training loop and switches components of gated forms on and off:

    begin(signals)
    each step:  before_step -> forward -> penalty -> backward -> after_backward -> optimizer's step -> after_step

``step`` counts the steps that are done: in ``before_step``, ``penalty`` and ``after_backward`` those before this one,
in ``after_step`` this one too. What a budget remembers is tensors (``state``, ``load_state``); what it draws comes
from (seed, layer, step). So a run that is killed and resumed goes on with the same bits. This wing knows nothing of
rankers: losses and metrics are handed in as functions (``Signals``).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor

from lorank.errors import UsageError, unknown_name
from lorank.lowrank.forms.form import Site
from lorank.lowrank.forms.gated import Gated
from lorank.lowrank.starts.start import Statistics


class Signals(Protocol):
    """What a budget may ask of the run that it serves."""

    optimizer: torch.optim.Optimizer
    training_loss: Callable[[int], Tensor]
    """step -> the loss of that step's batch, with its graph."""
    held_out_loss: Callable[[int], Tensor] | None
    """index -> the loss of a batch that is never trained on, with its graph."""
    measure: Callable[[], float] | None
    """The metric with the present weights, higher is better."""


@dataclass(frozen=True)
class Timetable:
    """When a budget acts in a run of T steps.

    Args:
        warmup: share of T before the first event.
        final: share of T, at the end, in which ranks stay as they are.
        every: steps between events.

    >>> timetable = Timetable(warmup=0.1, final=0.5, every=20)
    >>> [step for step in range(1, 101) if timetable.is_event(step, 100)]
    [30, 50]
    """

    warmup: float = 0.1
    final: float = 0.3
    every: int = 10

    def __post_init__(self) -> None:
        if not (0 <= self.warmup < 1 and 0 <= self.final < 1 and self.warmup + self.final < 1):
            raise UsageError(f"warmup {self.warmup!r} and final {self.final!r} must be shares that sum to less than 1")
        if self.every < 1:
            raise UsageError(f"every {self.every!r} is not a number of steps from 1 up")

    def bounds(self, steps: int) -> tuple[int, int]:
        """Return (first, last): events lie after ``first``, and ``last`` is one of them."""
        last = max(1, steps - round(self.final * steps))
        return min(round(self.warmup * steps), last - 1), last

    def is_event(self, step: int, steps: int) -> bool:
        """Return whether ranks may change after ``step`` steps."""
        first, last = self.bounds(steps)
        return step == last or (first < step < last and (step - first) % self.every == 0)

    def events(self, steps: int) -> list[int]:
        """Return the steps of all events."""
        return [step for step in range(1, steps + 1) if self.is_event(step, steps)]

    def passed_share(self, step: int, steps: int) -> float:
        """Return how far the phase of events is: 0 before it, 1 from its last event on."""
        first, last = self.bounds(steps)
        return min(1.0, max(0.0, (step - first) / (last - first)))


def gated_options(**options: object) -> Mapping[str, object]:
    """Return options of the gated form under a budget; see ``Gated``."""
    return MappingProxyType(options)


class Budget(ABC):
    """A dynamic budget over gated forms.

    Args:
        forms: the updates by layer path.
        total: the sum of ranks at the end.
        timetable: when to act.
        seed: of what the budget draws.
    """

    lr: ClassVar[float | None] = None
    """The learning rate that suits the forms under this budget; None is the gated form's: see ``lowrank.rates``."""

    needs: ClassVar[frozenset[str]] = frozenset()
    """Which of ``held_out_loss`` and ``measure`` the budget reads."""

    metric_loss: ClassVar[bool] = False
    """True where ``held_out_loss`` is to be the loss whose gradient follows the metric, whatever the run trains."""

    form_options: ClassVar[Mapping[str, object]] = gated_options()
    """How the gated forms under this budget are made; see ``Gated``."""

    base: ClassVar[str | None] = None
    """How the layers under the updates are quantised, or None."""

    exact: ClassVar[bool] = True
    """True where the ranks sum to ``planned`` at every step."""

    growth_change: ClassVar[float | None] = 0.0
    """The largest change of the output by growing a component; None where nothing grows."""

    signals: Signals

    def __init__(self, forms: Mapping[str, Gated], total: int, timetable: Timetable, *, seed: int = 0) -> None:
        self.forms, self.total, self.timetable, self.seed = dict(forms), total, timetable, seed
        most = sum(form.components for form in forms.values())
        if not 0 <= total <= most:
            raise UsageError(f"a total of {total} ranks is not within 0 and the {most} components of the adapter")

    def begin(self, signals: Signals) -> None:
        """Take what the run offers; called once before the first step, and again when a run is resumed."""
        lacking = sorted(name for name in self.needs if getattr(signals, name) is None)
        if lacking:
            raise UsageError(f"this budget needs {', '.join(lacking)}, which the run does not offer; it needs dev data")
        self.signals = signals
        for form in self.forms.values():
            for tensor in self.state().values():
                tensor.data = tensor.data.to(form.mask.device)  # the model may have moved since the budget was made
            break

    def before_step(self, step: int, steps: int) -> None:
        """Run before the forward pass."""

    def penalty(self, step: int, steps: int) -> Tensor | None:
        """Return a scalar to add to the loss, or None."""

    def after_backward(self, step: int, steps: int) -> None:
        """Run when the gradients are there."""

    def after_step(self, step: int, steps: int) -> bool:
        """Run after the optimizer's step; return whether ranks may have changed."""
        if not self.timetable.is_event(step, steps):
            return False
        self.event(step, steps)
        return True

    @abstractmethod
    def event(self, step: int, steps: int) -> None:
        """Change ranks; called after the steps that the timetable names."""

    def start_with(self, total: int) -> None:
        """Turn components on or off, equally over layers, until ``total`` are on; nothing where they are already."""
        if sum(form.active_rank() for form in self.forms.values()) == total:
            return
        for path, form in self.forms.items():
            form.switch(torch.arange(form.components, device=form.mask.device) < self.equal_ranks(total)[path])

    def equal_ranks(self, total: int) -> dict[str, int]:
        """Return ranks by path that sum to ``total`` and differ by at most 1 where components suffice."""
        most = {path: form.components for path, form in self.forms.items()}
        return hand_out(dict.fromkeys(most, 0.0), most, total)

    def planned_total(self, step: int, steps: int) -> int:
        """Return the sum of ranks after ``step`` steps (0: at the start); an upper bound where not ``exact``."""
        return self.total

    def settled(self, step: int, steps: int) -> bool:
        """Return whether ranks stay as they are from now on: weights from before are not those of the final ranks."""
        return step >= self.timetable.bounds(steps)[1]

    def ranks(self) -> dict[str, int]:
        """Return the present rank of each layer."""
        return {path: form.active_rank() for path, form in self.forms.items()}

    def state(self) -> dict[str, Tensor]:
        """Return what must survive a crash, beyond the forms' own tensors."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what ``state`` gave."""


def hand_out(scores: Mapping[str, float], free: Mapping[str, int], count: int) -> dict[str, int]:
    """Return how many of ``count`` ranks each layer gets: one each in order of score, round by round, while free.

    >>> hand_out({"a": 1.0, "b": 5.0, "c": 3.0}, {"a": 9, "b": 1, "c": 9}, 4)
    {'a': 1, 'b': 1, 'c': 2}
    """
    given = dict.fromkeys(scores, 0)
    order = sorted(scores, key=lambda path: -scores[path])
    while count:
        open_ = [path for path in order if given[path] < free[path]]
        for path in open_[:count]:
            given[path] += 1
        if not open_:
            break
        count -= min(count, len(open_))
    return given


Share = Callable[[Sequence[Site], Mapping[str, Statistics], int], dict[str, int]]


@dataclass(frozen=True)
class StaticBudget:
    """A static budget: the function (sites, statistics, total) -> ranks by path, and the statistics it reads."""

    share: Share
    needs: frozenset[str] = frozenset()


STATIC: dict[str, StaticBudget] = {}
"""Every static budget under its name."""

DYNAMIC: dict[str, type[Budget]] = {}
"""Every dynamic budget under its name."""

BudgetType = TypeVar("BudgetType", bound=type[Budget])


def static_budget(name: str, needs: Sequence[str] = ()) -> Callable[[Share], Share]:
    """Decorate a function to register it as the static budget ``name`` that reads the statistics ``needs``."""

    def enter(share: Share) -> Share:
        STATIC[name] = StaticBudget(share, frozenset(needs))
        return share

    return enter


def dynamic_budget(name: str) -> Callable[[BudgetType], BudgetType]:
    """Decorate a Budget to register it under ``name``."""

    def enter(cls: BudgetType) -> BudgetType:
        DYNAMIC[name] = cls
        return cls

    return enter


def budget(name: str, needs: Sequence[str] = ()) -> Callable[[Any], Any]:
    """Decorate a Budget or a function to register it under ``name``: see ``dynamic_budget`` and ``static_budget``."""

    def enter(member: Any) -> Any:
        return dynamic_budget(name)(member) if isinstance(member, type) else static_budget(name, needs)(member)

    return enter


def find_dynamic_budget(name: str) -> type[Budget]:
    """Return the dynamic budget called ``name``."""
    if name not in DYNAMIC:
        raise unknown_name("budget", name, {*DYNAMIC, *STATIC})
    return DYNAMIC[name]
