"""The registry of sampling plans: how many replies each prompt of a step gets, and which of them are learned from.

A plan asks for replies through a function that draws one for each prompt that is named, as often as it likes, and says
which of all that were drawn are kept. What it remembers of prompts between steps is tensors, for checkpoints.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from lorank.errors import UsageError, unknown_name

Draw = Callable[[Sequence[int]], Tensor]
"""From the places of prompts in the step, a reply to be drawn for each, to the replies' rewards float [drawn]."""


@dataclass(frozen=True)
class Kept:
    """What a plan keeps.

    Attributes:
        replies: Positions among all replies that were drawn, in the order in which they were.
        baselines: Mean reward over all samples of each prompt, [prompts]; None where all samples are kept.
    """

    replies: list[int]
    baselines: Tensor | None = None


class SamplingPlan(ABC):
    """Base of all plans; ``samples`` is the number of replies per prompt on average."""

    temperature: float = 1.0
    """By what the logits are divided when replies are drawn, beside the run's own temperature."""
    reads_entropy: ClassVar[bool] = False
    """Whether `observe_entropy` changes anything."""

    def __init__(self, samples: int) -> None:
        if samples < 1:
            raise UsageError(f"samples must be 1 or above; got {samples}")
        self.samples = samples

    @abstractmethod
    def sample(self, prompts: Sequence[int], draw: Draw, generator: torch.Generator) -> Kept:
        """Draw the replies of one step.

        Args:
            prompts: A number for each prompt of the step, alike at every epoch.
            draw: Draws a reply for each of the places that it is given, and returns their rewards.
            generator: The source of draws that are the plan's own.
        """

    def observe_entropy(self, entropy: float, done: float) -> None:
        """Read the policy's mean entropy per token in nats after a step; ``done`` is the share of the run that is over.

        Args:
            entropy: In nats, 0 and up.
            done: From 0 to 1.
        """

    def state_dict(self) -> dict[str, Tensor]:
        """Return what is remembered between steps."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take up what ``state_dict`` gave."""


PLANS: dict[str, type[SamplingPlan]] = {}
"""Every sampling plan by its name."""

P = TypeVar("P", bound=type[SamplingPlan])


def sampling_plan(name: str) -> Callable[[P], P]:
    """Decorate a sampling plan to enter it in ``PLANS`` under ``name``."""

    def enter(kind: P) -> P:
        PLANS[name] = kind
        return kind

    return enter


def make_plan(name: str, samples: int, **options: Any) -> SamplingPlan:
    """Return the sampling plan called ``name``.

    Args:
        name: A name in ``PLANS``.
        samples: Replies per prompt on average, 1 or more.
        options: The plan's own keyword arguments.
    """
    if name not in PLANS:
        raise unknown_name("sampling plan", name, PLANS)
    return PLANS[name](samples, **options)
