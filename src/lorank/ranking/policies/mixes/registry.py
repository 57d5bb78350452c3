"""The registry of mixes: how several parts of a reward become the one number that a policy climbs.

A mix has weights over the parts that may move during a run, by what dev says or by the parts' gradients; what it
remembers is tensors, for checkpoints.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from lorank.errors import UsageError, unknown_name


class RewardMix(ABC):
    """Base of all mixes.

    Args:
        start: The weight of each part that the reward brings, of which at least one is not 0.
    """

    reads_gradients: ClassVar[bool] = False
    """Whether `observe_gradients` moves the weights, which costs a backward pass per part."""

    def __init__(self, start: Sequence[float]) -> None:
        if not len(start) or not any(start):
            raise UsageError(f"a mix takes a weight for each part, not all 0; got {list(start)}")
        self.start = torch.tensor(start, dtype=torch.float32)

    @abstractmethod
    def __call__(self, parts: Tensor) -> Tensor:
        """Return the rewards [replies] of ``parts`` [replies, parts]."""

    def observe_dev(self, values: Sequence[float]) -> None:
        """Read the mean of each part on dev."""

    def observe_gradients(self, gradients: Sequence[Tensor]) -> None:
        """Read the gradient of the objective of each part, each flat and of the same length."""

    def observe_step(self, values: Sequence[float]) -> None:
        """Read the mean of each part over the replies of a step."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return what is remembered between steps."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take up what ``state_dict`` gave."""


MIXES: dict[str, type[RewardMix]] = {}
"""Every mix by its name."""

M = TypeVar("M", bound=type[RewardMix])


def reward_mix(name: str) -> Callable[[M], M]:
    """Decorate a mix to enter it in ``MIXES`` under ``name``."""

    def enter(kind: M) -> M:
        MIXES[name] = kind
        return kind

    return enter


def make_mix(name: str, start: Sequence[float], **options: Any) -> RewardMix:
    """Return the mix called ``name``.

    Args:
        name: A name in ``MIXES``.
        start: The weight of each part that the reward brings.
        options: The mix's own keyword arguments.
    """
    if name not in MIXES:
        raise unknown_name("mix of rewards", name, MIXES)
    return MIXES[name](start, **options)
