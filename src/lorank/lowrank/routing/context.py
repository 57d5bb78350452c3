"""Which task an example is of, and which preference is asked for: given to the routers beside the input.

Routers per task or per preference read it in their forward pass. It is set for the code that runs inside the
``with`` block, of this thread alone.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor

from lorank.errors import UsageError


@dataclass(frozen=True)
class Conditions:
    """``tasks``: one task, or int64 [batch]; ``preferences``: weights [tasks] or [batch, tasks] that sum to 1."""

    tasks: int | Tensor | None = None
    preferences: Tensor | None = None


NOTHING = Conditions()
_CONDITIONS: ContextVar[Conditions] = ContextVar("conditions", default=NOTHING)


def conditions() -> Conditions:
    """Return what was set last."""
    return _CONDITIONS.get()


@contextmanager
def context(
    tasks: int | Sequence[int] | Tensor | None = None, preferences: Sequence[float] | Tensor | None = None
) -> Iterator[Conditions]:
    """Within it routers see ``tasks`` and ``preferences``; what is None stays as it was set outside.

    Args:
        tasks: the task of all examples, or one an example (of the first dimension of what layers read).
        preferences: weights of the tasks, from 0 up with sum 1: one set, or one an example.

    >>> with context(tasks=2, preferences=[0.25, 0.75]) as given:
    ...     given.tasks, conditions().preferences.tolist()
    (2, [0.25, 0.75])
    >>> conditions()
    Conditions(tasks=None, preferences=None)
    """
    outer = conditions()
    chosen = outer.tasks if tasks is None else tasks if isinstance(tasks, int) else torch.as_tensor(tasks)
    weights = outer.preferences if preferences is None else torch.as_tensor(preferences)
    if weights is not None and not ((weights >= 0).all() and torch.allclose(weights.sum(-1), weights.new_ones(()))):
        raise UsageError(f"preferences {weights.tolist()} are not weights from 0 up that sum to 1")
    token = _CONDITIONS.set(Conditions(chosen, weights))
    try:
        yield conditions()
    finally:
        _CONDITIONS.reset(token)


def one_an_example(values: Tensor, x: Tensor, what: str) -> Tensor:
    """Return ``values`` [batch, ...], checked to have one row for each of the first dimension of ``x``."""
    if x.dim() < 2 or len(values) != len(x):
        raise UsageError(
            f"{len(values)} {what} were given for {len(x) if x.dim() > 1 else 1} examples in this layer; tell one for "
            "all, or one an example"
        )
    return values.to(x.device)
