"""How far training moved the weights, beside what plain LoRA moves them: an update that hardly moves is named.

    m = sqrt(sum_l |dW_l|_F^2 / sum_l |W_l|_F^2),    least(T) = LEAST_SHARE * LORA_MOVED * min(1, T / 30)

over the adapted layers l; T are the steps of the run, and LORA_MOVED is m of plain LoRA at its own rate after 30 steps
of MiniLM (benchmarks/rates.md).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from lorank.lowrank import Adapter
from lorank.training.hooks.hook import Hook, Progress

LORA_MOVED, LORA_STEPS = 0.008, 30
LEAST_SHARE = 0.05
"""A run that moves the weights by less than this share of what LoRA moves them by is named."""


class MovementWarning(UserWarning):
    """A run whose update hardly moved the weights."""


@dataclass(frozen=True)
class Movement:
    """How far a run moved the weights.

    Attributes:
        moved: m, over all adapted layers together.
        layers: |dW| / |W| of each layer, by path.
        steps: T, the steps that were taken.
    """

    moved: float
    layers: Mapping[str, float]
    steps: int

    def as_record(self) -> dict[str, Any]:
        """Return the movement as plain JSON data."""
        return {"moved": self.moved, "steps": self.steps, "least": self.least}

    @property
    def least(self) -> float:
        """The movement below which a run of so many steps is named.

        >>> Movement(0.0, {}, 60).least == LEAST_SHARE * LORA_MOVED
        True
        """
        return LEAST_SHARE * LORA_MOVED * min(1.0, self.steps / LORA_STEPS)

    def describe(self, method: str, lr: float, default: float) -> str | None:
        """Return what to say of an update that hardly moved, None where there is nothing to say.

        Args:
            method: the adapter.
            lr: the rate of the run.
            default: the rate that the method, or the rule, start or budget with it, brings.

        >>> print(Movement(1e-5, {"a": 1e-5, "b": 2e-5}, 30).describe("vera", 5e-4, 0.05))
        adapter 'vera' hardly moved the weights: ||dW|| / ||W|| is 0.001% (2 of 2 layers below 0.04%), and plain LoRA \
        moves them by 0.8% in 30 steps; try --lr 0.05, the rate of these methods
        """
        if not self.steps or self.moved >= self.least:
            return None
        still = sum(1 for own in self.layers.values() if own < self.least)
        remedy = (
            f"--lr {default:g}, the rate of these methods" if lr < default else f"--lr {10 * lr:g}, or more --steps"
        )
        return (
            f"adapter {method!r} hardly moved the weights: ||dW|| / ||W|| is {100 * self.moved:.2g}% ({still} of "
            f"{len(self.layers)} layers below {100 * self.least:.2g}%), and plain LoRA moves them by "
            f"{100 * LORA_MOVED:.2g}% in {LORA_STEPS} steps; try {remedy}"
        )


class WatchMovement(Hook):
    """Measures how far the weights are moved, at every evaluation and at the end of a run.

    The weights that a run keeps may be those of an earlier step, or the untuned ones; ``last`` is what training did.
    """

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter
        self.last: Movement | None = None

    def after_step(self, progress: Progress, optimizer: torch.optim.Optimizer) -> None:
        """Measure after the last step."""
        if progress.step == progress.steps:
            self._measure(progress.step)

    def after_evaluation(self, progress: Progress) -> None:
        """Measure, for the run may be stopped here."""
        if 0 < progress.step < progress.steps:
            self._measure(progress.step)

    def _measure(self, step: int) -> None:
        norms = update_norms(self.adapter)
        moved = relative_movement(norms)
        if moved is not None:
            layers = {p: n["update_norm"] / n["weight_norm"] if n["weight_norm"] else 0.0 for p, n in norms.items()}
            self.last = Movement(moved, layers, step)


@torch.no_grad()
def update_norms(adapter: Adapter) -> dict[str, dict[str, float]]:
    """Return the Frobenius norms of each layer's update and weight, where one matrix stands for the update."""
    if not adapter.mergeable:
        return {}
    adapter.unmerge()
    norms = {}
    for path, layer in adapter.layers.items():
        update, weight = layer.delta(), layer.frozen.weight
        norms[path] = {"update_norm": float(update.norm()), "weight_norm": float(weight.float().norm())}
    return norms


def relative_movement(norms: Mapping[str, Mapping[str, float]]) -> float | None:
    """Return how far the adapted layers moved together, sqrt(sum |dW|^2 / sum |W|^2); None where it is not known.

    >>> round(relative_movement({"a": {"update_norm": 3.0, "weight_norm": 30.0}}), 3)
    0.1
    """
    if not norms:
        return None
    squares = [sum(each[key] ** 2 for each in norms.values()) for key in ("update_norm", "weight_norm")]
    return math.sqrt(squares[0] / squares[1]) if squares[1] > 0 else None
