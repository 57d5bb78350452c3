"""Training within a budget of wall-clock time.

The run has ``seconds`` from its beginning to its end, of which its last look at dev and its judgement on test need
``reserve``. Steps are planned to fit (`lorank.training.estimate`); what is here keeps to the budget when they turn out
slower. No step begins once the reserve is touched, so that the run ends at the latest

    one step + (what evaluation took - reserve)

after its budget. The schedule of rates ends when the time does: with r seconds left of the R that steps have, it stands
at step max(step, n (1 - r / R)) of n, where the second counts only if the run has fallen behind by more than ``SLACK``
of its steps; a run that keeps its pace is thus a function of its seed alone.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

SLACK = 0.05


@dataclass
class TimeBudget:
    """The time of one run.

    Attributes:
        seconds: From the run's beginning to its end.
        clock: Returns seconds.
        began: The clock when this process began with the run.
        earlier: Seconds that earlier processes spent on the run.
        reserve: What evaluation after the last step needs.
        look: What one look at dev takes.
        stepping: What was left for steps, without looks, when the first began.
    """

    seconds: float
    clock: Callable[[], float] = time.monotonic
    began: float = field(default=-1.0)
    earlier: float = 0.0
    reserve: float = 0.0
    look: float = 0.0
    stepping: float = 0.0

    def __post_init__(self) -> None:
        if self.began < 0:
            self.began = self.clock()

    @property
    def elapsed(self) -> float:
        """The seconds that the run has taken so far, in all processes."""
        return self.earlier + self.clock() - self.began

    @property
    def left(self) -> float:
        """The seconds that are left for steps and looks before the reserve."""
        return self.seconds - self.reserve - self.elapsed

    def spent(self) -> bool:
        """Return whether no further step may begin."""
        return self.left <= 0

    def has_time_to_look(self) -> bool:
        """Return whether a look between two steps fits."""
        return self.left >= self.look

    def position(self, step: int, steps: int, looks: int) -> float:
        """Return where the schedule of rates stands before step ``step`` of ``steps`` with ``looks`` looks to come.

        >>> late = TimeBudget(100.0, clock=lambda: 90.0, began=0.0, stepping=100.0)
        >>> late.position(5, 10, 0), late.position(9, 10, 0)
        (9.0, 9)
        """
        if self.stepping <= 0:
            return step
        reached = steps * (1 - max(0.0, self.left - looks * self.look) / self.stepping)
        return min(reached, steps - 1) if reached > step + SLACK * steps else step
