"""Tells routers which task a step is of, and which preference it is trained for."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from lorank.errors import UsageError
from lorank.lowrank.routing import Conditions, conditions, context, preference_schedule
from lorank.training.hooks.hook import Hook, Progress


class RoutingContext(Hook):
    """Sets the routers' context for each step; a hook of `train` or `fit`.

    ``what`` maps (step counted from 0, steps) to the step's conditions, and to nothing else: then a resumed run is the
    same run. Outside of steps, as in evaluations, nothing is set.
    """

    def __init__(self, what: Callable[[int, int], Conditions]) -> None:
        self.what, self._open = what, ExitStack()

    def before_step(self, progress: Progress, optimizer: torch.optim.Optimizer) -> None:
        """Tell it."""
        given = self.what(progress.step, progress.steps)
        self._open.close()
        self._open.enter_context(context(given.tasks, given.preferences))

    def after_step(self, progress: Progress, optimizer: torch.optim.Optimizer) -> None:
        """Leave the step's context."""
        self._open.close()


def sweep_preferences(tasks: int, points: int = 5) -> RoutingContext:
    """Return the hook that sweeps PaLoRA's preferences over the simplex of ``tasks``, from its middle outwards."""
    return RoutingContext(lambda step, steps: Conditions(preferences=preference_schedule(step, steps, tasks, points)))


def preference_loss(losses: Sequence[Callable[..., Tensor]]) -> Callable[..., Tensor]:
    """Return sum_t lambda_t L_t with the preference that is set, and even weights where none is.

    Raises UsageError where there are not as many losses as preferences.

    >>> loss = preference_loss([lambda s, y, m: s.sum(), lambda s, y, m: -s.sum()])
    >>> scores = torch.ones(1, 2)
    >>> with context(preferences=[0.75, 0.25]):
    ...     loss(scores, scores, scores > 0).item()
    1.0
    """

    def loss(scores: Tensor, labels: Tensor, mask: Tensor, *weights: Any) -> Tensor:
        given = conditions().preferences
        chosen = scores.new_full((len(losses),), 1 / len(losses)) if given is None else given.to(scores)
        if len(chosen) != len(losses):
            raise UsageError(f"{len(chosen)} preferences were given for {len(losses)} losses")
        return torch.stack([each(scores, labels, mask, *weights) for each in losses]) @ chosen

    return loss
