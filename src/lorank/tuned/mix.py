"""The mix: how much of the learned score is added to the first stage's, chosen on dev, zero included.

    final(q, d) = a z(q, d) + w c(q, d)

with z the first-stage score standardised per query, c the learned score, and (a, w) = (1, g / spread) for a
grid of g >= 0, or (0, 1) for g = inf. The spread is the standard deviation of c within a query, averaged over
dev queries, so that g = 1 gives both equal say. g = 0 is the first stage itself: a tuned ranker chosen
this way never falls below it on dev.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.types import Run


@dataclass(frozen=True)
class Mix:
    """``first_stage`` is a, ``weight`` is w; ``curve`` holds (g, dev value) for every g that was tried."""

    first_stage: float
    weight: float
    curve: list[tuple[float, float]] = field(default_factory=list)

    @property
    def relative_weight(self) -> float:
        """The chosen g, the weight in units of the learned score's spread: 0 is the first stage alone, inf the ranker.

        >>> Mix(1.0, 4.0, [(0.0, 0.5), (2.0, 0.7), (3.0, 0.7)]).relative_weight
        2.0
        """
        return max(self.curve, key=lambda point: point[1])[0] if self.curve else math.inf

    def apply(self, first_stage: np.ndarray | float | None, learned: np.ndarray | float) -> Any:
        """Return a z + w c, an array or a number; ``first_stage`` may be None only where a is 0.

        >>> Mix(1.0, 0.5).apply(np.array([1.0, -1.0]), np.array([0.0, 4.0])).tolist()
        [1.0, 1.0]
        """
        mixed = self.weight * learned
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
    {'first_stage': 0.0, 'weight': 1.0, 'curve': [['inf', 0.5]]}
    """
    curve = [["inf" if math.isinf(g) else g, value] for g, value in mix.curve]
    return {"first_stage": mix.first_stage, "weight": mix.weight, "curve": curve}


def mix_from_json(data: Mapping[str, Any]) -> Mix:
    """Return the mix that ``mix_as_json`` described; folders of 0.1 wrote a bare Infinity, which is read too."""
    return Mix(data["first_stage"], data["weight"], [(float(g), float(value)) for g, value in data.get("curve", [])])


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
    return Mix(best.first_stage, best.weight, list(zip(sorted(grid), values, strict=True)))


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
    return ALONE if math.isinf(g) else Mix(first_stage=1.0, weight=g / unit)
