"""Forms with a schedule in a training loop that does not say how far it is: what they do, and the warning."""

import warnings
import weakref

from torch import nn

from lorank.lowrank.forms.form import Form


class ScheduleWarning(UserWarning):
    """A form follows a schedule, and the training loop does not call ``advance``."""


def watch_steps(form: Form) -> None:
    """Have ``form`` notice optimizer steps of which ``advance`` tells nothing, where it has a schedule.

    A hook on one trained parameter looks at the end of each backward pass whether the parameter was stepped since the
    last one. After the first such step the form warns, and from then on it does what it does unattended.
    """
    trained = next((parameter for parameter in form.parameters() if parameter.requires_grad), None)
    if form.scheduled and trained is not None:
        trained.register_post_accumulate_grad_hook(_Steps(form))


class _Steps:
    """Counts the optimizer steps of a parameter by its version counter."""

    def __init__(self, form: Form) -> None:
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
        form.unattended(self.done)
