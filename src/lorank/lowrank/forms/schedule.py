"""Forms with a schedule in a training loop that does not say how far it is: what they do, and the warning."""

import warnings
import weakref
from collections.abc import Iterator
from typing import ClassVar, Protocol

from torch import nn


class ScheduleWarning(UserWarning):
    """A form follows a schedule, and the training loop does not call ``advance``."""


class Scheduled(Protocol):
    """What is watched of a form: whether it follows a schedule, and what it does where nothing advances it."""

    training: bool
    advanced: bool
    unattended_effect: ClassVar[str]

    @property
    def scheduled(self) -> bool:
        """Whether it follows a schedule."""
        ...

    def advance_unattended(self, step: int) -> None:
        """Act after ``step`` steps of a loop that never called ``advance``."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield its parameters."""
        ...


def watch_steps(form: Scheduled) -> None:
    """Have ``form`` notice optimizer steps of which ``advance`` tells nothing, where it has a schedule.

    A hook on one trained parameter looks at the end of each backward pass whether the parameter was stepped since the
    last one. After the first such step the form warns, and from then on it does what it does unattended.
    """
    trained = next((parameter for parameter in form.parameters() if parameter.requires_grad), None)
    if form.scheduled and trained is not None:
        trained.register_post_accumulate_grad_hook(_Steps(form))


class _Steps:
    """Counts the optimizer steps of a parameter by its version counter."""

    def __init__(self, form: Scheduled) -> None:
        self.form, self.version, self.done = weakref.ref(form), -1, 0

    def __call__(self, parameter: nn.Parameter) -> None:
        form, before, self.version = self.form(), self.version, parameter._version
        if form is None or form.advanced or not form.training or before in (-1, self.version):
            return
        self.done += 1
        if self.done == 1 and form.unattended_effect:
            warnings.warn(
                f"{type(form).__name__} follows a schedule over the run, and the training loop does not tell how far "
                f"it is: call adapter.advance(step, total) after each optimizer step. Until then each layer "
                f"{form.unattended_effect}.",
                ScheduleWarning,
                stacklevel=2,
            )
        form.advance_unattended(self.done)
