"""The range of every number of a recipe: what lies outside is refused before data is read, with what is legal."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from lorank.errors import UsageError
from lorank.training.settings import Recipe


@dataclass(frozen=True)
class Range:
    """The numbers from ``low`` to ``high``, each of the two among them unless ``open_low`` or ``open_high``.

    >>> share = Range(0, 1, open_high=True)
    >>> share.holds(1), str(share), str(Range(1)), str(Range(0, open_low=True))
    (False, 'from 0 to below 1', 'from 1 up', 'above 0')
    """

    low: float
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False
    infinite: bool = False

    def holds(self, value: float) -> bool:
        """Return whether a number lies in the range; NaN lies in none, and infinity where ``infinite`` says so."""
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below and (self.infinite or math.isfinite(value))

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f"above {self.low:g}" if self.open_low else f"from {self.low:g} up"
        return (
            f"{'above' if self.open_low else 'from'} {self.low:g} to {'below ' if self.open_high else ''}{self.high:g}"
        )


MOST_RANK = 1 << 16
ONE_UP, ZERO_UP, ABOVE_ZERO = Range(1), Range(0), Range(0, open_low=True)
SHARE, BELOW_ONE = Range(0, 1), Range(0, 1, open_high=True)

RANGES = {
    "adapter.rank": Range(0, MOST_RANK),
    "adapter.alpha": ABOVE_ZERO,
    "adapter.dropout": BELOW_ONE,
    "adapter.calibration_batches": ONE_UP,
    "budget.total": ZERO_UP,
    "optimizer.rank": Range(0, MOST_RANK),
    "policy.samples": ONE_UP,
    "policy.updates": ONE_UP,
    "policy.clip_low": Range(0, 1, open_low=True, open_high=True),
    "policy.clip_high": ABOVE_ZERO,
    "policy.divergence": ZERO_UP,
    "policy.temperature": ABOVE_ZERO,
    "policy.max_tokens": ONE_UP,
    "policy.size": Range(2),
    "policy.words": ONE_UP,
    "lists.positives": ONE_UP,
    "lists.negatives": ZERO_UP,
    "lists.depth": ONE_UP,
    "lists.spare": Range(0, infinite=True),
    "lists.impressions": ONE_UP,
    "training.steps": ONE_UP,
    "training.minutes": ABOVE_ZERO,
    "training.tokens": ONE_UP,
    "training.epochs": ABOVE_ZERO,
    "training.batch_size": ONE_UP,
    "training.accumulate": ONE_UP,
    "training.lr": ZERO_UP,
    "training.head_lr": ZERO_UP,
    "training.warmup": SHARE,
    "training.weight_decay": ZERO_UP,
    "training.betas": BELOW_ONE,
    "training.clip": Range(0, open_low=True, infinite=True),
    "training.evaluations": ZERO_UP,
    "training.evaluation_queries": ONE_UP,
    "training.evaluation_depth": ONE_UP,
    "training.evaluation_share": Range(0, 1, open_low=True, open_high=True),
    "training.patience": ONE_UP,
    "training.checkpoint_seconds": Range(0, infinite=True),
    "first_stage.grid": Range(0, infinite=True),
    "reading.max_length": ONE_UP,
    "reading.overlap": ZERO_UP,
    "reading.passage_length": ONE_UP,
    "reading.title_weight": ZERO_UP,
    "reading.temperature": ABOVE_ZERO,
    "reading.beta": ABOVE_ZERO,
    "reading.summary": ONE_UP,
    "reading.decay": ZERO_UP,
    "reading.low": ZERO_UP,
    "seed": ZERO_UP,
}
"""Settings, as section.key; of a list each number lies in the range."""
RANGES_OF_CASCADES = {"cascade.depth": ONE_UP, "cascade.least_gain": SHARE}
"""Settings that recipe files alone have."""


def check_ranges(recipe: Recipe, place: Callable[[str], str] = str) -> None:
    """Raise UsageError for the first number of a recipe that lies outside of its range; "auto" and None are passed.

    Args:
        recipe: The recipe.
        place: It returns what a message calls a setting.
    """
    for setting, legal in (RANGES | (RANGES_OF_CASCADES if hasattr(recipe, "cascade") else {})).items():
        section, _, key = setting.rpartition(".")
        value = getattr(getattr(recipe, section) if section else recipe, key)
        for number in value if isinstance(value, tuple | list) else [value]:
            if isinstance(number, int | float) and not legal.holds(number):
                raise UsageError(f"{place(setting)} is {number:g}; give a number {legal}")
    if not recipe.first_stage.grid:
        raise UsageError(f"{place('first_stage.grid')} is empty; give weights from 0 up")
