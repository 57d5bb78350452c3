"""Which weights of a run may be its result: the last alone where dev cannot tell weights apart, trained ones alone."""

from typing import Any

from lorank.ranking.losses import Loss, requirements_of
from lorank.training.hooks.hook import Hook, Progress


class KeepLast(Hook):
    """Lets no weights but the last be the result."""

    def settled(self, progress: Progress) -> bool:
        """Return whether the run is over."""
        return progress.step >= progress.steps


class KeepTrained(Hook):
    """Lets weights be the result only once they were trained, for runs that keep them whatever dev says."""

    def settled(self, progress: Progress) -> bool:
        """Return whether a step was made."""
        return progress.step > 0


def keep_last(loss: Loss, held_out: Any) -> list[Hook]:
    """Return the hook for a loss that learns from lists of one label, where the dev lists are of that sort alone.

    Supervised fine-tuning is such a loss: a prompt's only reply is ranked first whatever the weights are, and the first
    of equals would be the weights before training.
    """
    if held_out is None or "outside" not in requirements_of(loss):
        return []
    labels_differ = any(each.labels.max() > each.labels.min() for each in held_out.epoch(0))
    return [] if labels_differ else [KeepLast()]
