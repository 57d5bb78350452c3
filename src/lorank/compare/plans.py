"""What the rows of an experiment need and have chosen: plans of rows and of their seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from lorank.compare.experiment import Row
from lorank.compare.ledger import Lines
from lorank.compare.trial import Trial


@dataclass(frozen=True)
class SeedPlan:
    """What one seed of a row needs and has chosen.

    Attributes:
        seed: The seed.
        trials: The trials at the chosen value, one for each fold; empty while nothing is chosen.
        value: The chosen value of the swept key; None where nothing is swept, or chosen yet.
        swept: What dev said of each value that was tried.
        pending: The trials that must end before there is more to say.
        planned: How many trials the seed has in sight.
        drawn: The chosen configuration of each fold; empty where nothing is drawn, or chosen yet.
        tried: All trials among which dev chose, or will; empty where it does not.
    """

    seed: int
    trials: Sequence[Trial] = ()
    value: float | None = None
    swept: Sequence[tuple[float, float]] = ()
    pending: Sequence[Trial] = ()
    planned: int = 0
    drawn: Sequence[Mapping[str, Any]] = ()
    tried: Sequence[Trial] = ()


@dataclass(frozen=True)
class RowPlan:
    """What a row needs: the plan of each seed; ``blocked`` while another row must end first."""

    row: Row
    seeds: Sequence[SeedPlan] = ()
    blocked: bool = False

    @property
    def pending(self) -> list[Trial]:
        """The trials that the row can run now."""
        return [trial for plan in self.seeds for trial in plan.pending]

    @property
    def planned(self) -> int:
        """How many trials the row has in sight; edges that may be followed are not among them."""
        return sum(plan.planned for plan in self.seeds)


def value_on_dev(trials: Sequence[Trial], lines: Lines, measure: str) -> float | None:
    """Return the mean over folds of a measure on dev; None where a trial has not ended, or failed."""
    values = []
    for trial in trials:
        result = lines.get(trial.key, {}).get("result")
        if result is None or measure not in result["dev"]:
            return None
        values.append(result["dev"][measure])
    return fmean(values)


def unended(trials: Sequence[Trial], lines: Lines) -> list[Trial]:
    """Return the trials that have neither a result nor a failure yet."""
    return [trial for trial in trials if trial.key not in lines]
