"""The registry of data reuse: how many optimizer steps the replies of one draw serve.

A way of reuse is asked once per draw, and sees what the draw after it earned, which the steps on the earlier one
brought about. What it remembers is tensors, for checkpoints.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from lorank.errors import UsageError, unknown_name


class DataReuse(ABC):
    """Base of all ways; ``updates`` is the number of steps, or the largest where it is chosen."""

    adapts: ClassVar[bool] = False
    """Whether the number changes, so that a run shows it."""

    def __init__(self, updates: int) -> None:
        if updates < 1:
            raise UsageError(f"updates must be 1 or above; got {updates}")
        self.updates = updates

    @abstractmethod
    def choose(self, generator: torch.Generator) -> int:
        """Return how many steps are taken on this draw, from 1 to ``updates``.

        Args:
            generator: The source of a draw among numbers.
        """

    def observe(self, earned: float) -> None:
        """Read the mean reward of a draw, which the policy earned after the steps that were chosen last."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return what is remembered between steps."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take up what ``state_dict`` gave."""


REUSES: dict[str, type[DataReuse]] = {}
"""Every way of reuse by its name."""

R = TypeVar("R", bound=type[DataReuse])


def data_reuse(name: str) -> Callable[[R], R]:
    """Decorate a way of reuse to enter it in ``REUSES`` under ``name``."""

    def enter(kind: R) -> R:
        REUSES[name] = kind
        return kind

    return enter


def make_reuse(name: str, updates: int, **options: Any) -> DataReuse:
    """Return the way of reuse called ``name``.

    Args:
        name: A name in ``REUSES``.
        updates: Steps per draw, or the most of them, 1 or more.
        options: The way's own keyword arguments.
    """
    if name not in REUSES:
        raise unknown_name("way of reuse", name, REUSES)
    return REUSES[name](updates, **options)
