"""The mix: how much of the learned score is added to the first stage's, chosen on dev, zero included.

    final(q, d) = a z(q, d) + (g / s) c(q, d)

with z the first-stage score standardised per query and c the learned score. The spread s is the standard deviation of
c within a query, averaged over dev queries, so that the weight g = 1 gives both an equal say. a is 1 for the weights
g >= 0 of a grid; for g = inf the learned score stands alone: a = 0 and g / s = 1. g = 0 is the first stage itself, so a
tuned ranker that is chosen this way never falls below it on dev. The weight g is the one number that output, cards,
records and reports state.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.types import Run


@dataclass(frozen=True)
class Mix:
    """A weight of the learned score and what it is relative to.

    Attributes:
        first_stage: The factor a of the first stage's score, 1 or 0.
        weight: The weight g of the learned score, in units of its spread.
        curve: (g, dev value) for every g that was tried.
        spread: The spread s of the learned score.
    """

    first_stage: float
    weight: float
    curve: list[tuple[float, float]] = field(default_factory=list)
    spread: float = 1.0

    @property
    def factor(self) -> float:
        """What the learned score is multiplied by, g / s.

        >>> Mix(1.0, 4.0, spread=2.0).factor
        2.0
        """
        return self.weight / self.spread

    def describe_weight(self) -> str:
        """Return the weight of the learned score as it is stated everywhere.

        >>> Mix(1.0, 0.35, spread=2.0).describe_weight(), ALONE.describe_weight()
        ('0.35', 'alone')
        """
        return "alone" if self.first_stage == 0.0 else f"{self.weight:g}"

    def apply(self, first_stage: np.ndarray | float | None, learned: np.ndarray | float) -> Any:
        """Return a z + (g / s) c, an array or a number; ``first_stage`` may be None only where a is 0.

        >>> Mix(1.0, 0.5).apply(np.array([1.0, -1.0]), np.array([0.0, 4.0])).tolist()
        [1.0, 1.0]
        """
        mixed = self.factor * learned
        if self.first_stage == 0.0:
            return mixed
        if first_stage is None:
            raise UsageError("this mix adds the first stage's score, and none was given")
        return self.first_stage * first_stage + mixed


ALONE = Mix(first_stage=0.0, weight=1.0)
"""The learned score as it is: what a ranker without a first stage uses."""


def mix_as_json(mix: Mix) -> dict[str, Any]:
    """Return a mix as JSON data; an infinite g is the string "inf", for JSON has no infinity.

    >>> mix_as_json(Mix(0.0, 1.0, [(math.inf, 0.5)]))
    {'first_stage': 0.0, 'weight': 1.0, 'spread': 1.0, 'curve': [['inf', 0.5]]}
    """
    curve = [["inf" if math.isinf(g) else g, value] for g, value in mix.curve]
    return {"first_stage": mix.first_stage, "weight": mix.weight, "spread": mix.spread, "curve": curve}


def mix_from_json(data: Mapping[str, Any]) -> Mix:
    """Return the mix that ``mix_as_json`` described.

    Folders of 0.1 wrote a bare Infinity, and g / s as the weight, without the spread, which follows from the curve's
    best g.

    Raises:
        ValueError: For a spread that is not above 0.

    >>> old = mix_from_json({"first_stage": 1.0, "weight": 4.0, "curve": [[0.0, 0.5], [2.0, 0.7], [3.0, 0.7]]})
    >>> old.weight, old.spread, old.factor
    (2.0, 0.5, 4.0)
    """
    curve = [(float(g), float(value)) for g, value in data.get("curve", [])]
    first_stage, weight, spread = data["first_stage"], data["weight"], data.get("spread")
    if spread is None:
        best = max(curve, key=lambda point: point[1])[0] if curve else math.inf
        known = first_stage != 0.0 and weight > 0.0 and 0.0 < best < math.inf
        weight, spread = (best, best / weight) if known else (weight, 1.0)
    if not 0.0 < spread < math.inf:
        raise ValueError(f"a mix whose spread is {spread}")
    return Mix(first_stage, weight, curve, spread)


def spread(run: Run) -> float:
    """Return the mean over queries of the standard deviation of the scores (1 where all are equal)."""
    deviations = [float(np.std(list(row.values()))) for row in run.values() if len(row) > 1]
    mean = float(np.mean(deviations)) if deviations else 0.0
    return mean if mean > 0 else 1.0


def choose_mix(first_stage: Run, learned: Run, grid: Sequence[float], measure: Callable[[Run], float]) -> Mix:
    """Return the mix with the highest ``measure`` on dev; of equal ones, the one nearest the first stage.

    Args:
        first_stage: The first-stage scores of dev, standardised per query.
        learned: The learned scores of the same queries and documents.
        grid: The weights g to try, from 0 to inf, in units of the learned scores' spread.
        measure: It returns the value of a run on dev, higher being better.
    """
    unit = spread(learned)
    tried = [_mix_of(g, unit) for g in sorted(grid)]
    values = [measure(mix_run(mix, first_stage, learned)) for mix in tried]
    best = tried[int(np.argmax(values))]
    return replace(best, curve=list(zip(sorted(grid), values, strict=True)))


def mix_run(mix: Mix, first_stage: Mapping[str, Mapping[str, float]], learned: Run) -> Run:
    """Return the run of mixed scores over the documents of ``learned``."""
    return {
        query: {
            document: float(mix.apply(first_stage[query][document] if mix.first_stage else None, score))
            for document, score in row.items()
        }
        for query, row in learned.items()
    }


def _mix_of(g: float, unit: float) -> Mix:
    return ALONE if math.isinf(g) else Mix(first_stage=1.0, weight=g, spread=unit)
