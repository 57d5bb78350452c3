"""The registry of advantages: how much better a sampled reply is than what its prompt would earn anyway.

An advantage is a function of replies that are sampled for several prompts, each with as many as its plan gave it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lorank.errors import UsageError, unknown_name


@dataclass(frozen=True)
class Replies:
    """Sampled replies with what they earned.

    Attributes:
        rewards: [replies], or [replies, places] where each place of a reply earns a reward of its own.
        groups: The number of each reply's prompt, int64 [replies].
        log_probs: Mean log-probability of a token of each reply, [replies]; None where nobody reads it.
        baselines: Mean reward over all samples of each prompt, [prompts], where a plan has kept only some of them.
    """

    rewards: Tensor
    groups: Tensor
    log_probs: Tensor | None = None
    baselines: Tensor | None = None

    def __post_init__(self) -> None:
        if self.rewards.dim() not in (1, 2) or self.groups.shape != self.rewards.shape[:1]:
            raise UsageError(
                f"rewards are [replies] or [replies, places] and groups [replies]; got {list(self.rewards.shape)} and "
                f"{list(self.groups.shape)}"
            )

    @property
    def count(self) -> int:
        """How many prompts there are."""
        return int(self.groups.max()) + 1 if len(self.groups) else 0

    def sizes(self) -> Tensor:
        """Return how many replies the prompt of each reply has, shaped to divide ``rewards``."""
        return self._shaped(torch.bincount(self.groups, minlength=self.count).to(self.rewards)[self.groups])

    def sums(self, values: Tensor) -> Tensor:
        """Return for each reply the sum of ``values`` over the replies of its prompt, shaped as ``values``."""
        total = values.new_zeros(self.count, *values.shape[1:]).index_add_(0, self.groups, values)
        return total[self.groups]

    def means(self) -> Tensor:
        """Return for each reply the mean reward of its prompt, shaped as ``rewards``."""
        return self.sums(self.rewards) / self.sizes()

    def _shaped(self, values: Tensor) -> Tensor:
        return values if self.rewards.dim() == 1 else values.unsqueeze(1)


Advantage = Callable[..., Tensor]
"""``advantage(replies, **options) -> tensor shaped as replies.rewards``."""

ADVANTAGES: dict[str, Advantage] = {}
"""Every advantage by its name."""


def advantage(name: str) -> Callable[[Advantage], Advantage]:
    """Decorate an advantage to enter it in ``ADVANTAGES`` under ``name``."""

    def enter(function: Advantage) -> Advantage:
        ADVANTAGES[name] = function
        return function

    return enter


def find_advantage(name: str) -> Advantage:
    """Return the advantage called ``name``; raise UsageError for an unknown one."""
    if name not in ADVANTAGES:
        raise unknown_name("advantage", name, ADVANTAGES)
    return ADVANTAGES[name]


def compute_advantages(name: str, replies: Replies, **options: Any) -> Tensor:
    """Return the advantages, without a graph.

    Args:
        name: A name in ``ADVANTAGES``.
        replies: What was sampled.
        options: The advantage's own keyword arguments.
    """
    with torch.no_grad():
        return find_advantage(name)(replies, **options).detach()
