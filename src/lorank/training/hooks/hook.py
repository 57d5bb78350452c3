"""Hooks: where budgets, rules and watchers enter the training loop without the loop knowing them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor


@dataclass
class Progress:
    """Where a run stands; handed to every hook. ``dev`` is the latest dev evaluation, if there was one."""

    step: int
    steps: int
    epoch: int
    loss: float = float("nan")
    lr: float = 0.0
    dev: dict[str, float] | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Access:
    """What a hook may use of the run that it is part of.

    ``training_loss(step)`` is the loss, with its graph, on the lists that ``step`` trains on;
    ``held_out_loss(index)`` that on a batch of lists that are never trained on, None where there are none; both
    take another ``loss`` in place of the run's;
    ``measure()`` is dev nDCG@10 of the weights as they stand, None where nothing is evaluated; ``steps`` is how many
    steps the run has.
    """

    optimizer: torch.optim.Optimizer
    training_loss: Callable[..., Tensor]
    held_out_loss: Callable[..., Tensor] | None
    measure: Callable[[], float] | None
    steps: int = 0


class Hook:
    """Base of all hooks: every method does nothing, a hook overrides those that it needs.

    ``begin`` comes once, before the first step and before ``load_state``. Order within a step: ``before_step``,
    forward, ``penalty``, backward, ``after_backward`` (gradients are there, clipping is not yet done), optimizer
    step, ``after_step``. What a hook remembers between steps it gives out in ``state`` as tensors and takes back in
    ``load_state``; then a resumed run is the same run.
    """

    watches: ClassVar[bool] = False
    """True for a hook that changes nothing: checkpoints do not name it, and a run is resumed with or without it."""

    @property
    def name(self) -> str:
        """What a checkpoint calls this hook's state; a resumed run must have hooks of the same names."""
        return type(self).__name__

    def begin(self, access: Access) -> None:
        """Run before the first step, or before a checkpoint is taken up."""

    def before_step(self, progress: Progress, optimizer: torch.optim.Optimizer) -> None:
        """Run before the forward pass, e.g. to mask components for this step."""

    def penalty(self, progress: Progress) -> Tensor | None:
        """Return a scalar to add to the loss, or None."""

    def after_backward(self, progress: Progress, optimizer: torch.optim.Optimizer) -> None:
        """Run when the gradients of ``progress.loss`` are there, e.g. to change them or to read them."""

    def after_step(self, progress: Progress, optimizer: torch.optim.Optimizer) -> None:
        """Run after the optimizer's step, e.g. for proximal steps, or to move ranks."""

    def at_epoch_end(self, progress: Progress) -> None:
        """Run when every training list was seen once more."""

    def after_evaluation(self, progress: Progress) -> None:
        """Run after a dev evaluation; ``progress.dev`` holds it."""

    def settled(self, progress: Progress) -> bool:
        """Return whether the weights as they stand may be the run's result; False while their shape still changes."""
        return True

    def state(self) -> dict[str, Tensor]:
        """Return what must survive a crash, as tensors."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what ``state`` gave."""
