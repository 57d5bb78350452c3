"""What a loss remembers between calls, kept through checkpoints."""

from typing import Any

import torch
from torch import Tensor

from lorank.errors import UsageError
from lorank.ranking.losses import Loss
from lorank.training.hooks.hook import Access, Hook


class LossMemory(Hook):
    """Carries what a loss remembers between calls through checkpoints."""

    def __init__(self, loss: Loss) -> None:
        self.loss: Any = loss

    def begin(self, access: Access) -> None:
        """Refuse several processes, each of which would remember a part."""
        if (
            torch.distributed.is_available()
            and torch.distributed.is_initialized()
            and torch.distributed.get_world_size() > 1
        ):
            raise UsageError(
                f"the loss {type(self.loss).__name__} remembers every list and cannot be shared between "
                "processes; train it in one process"
            )

    def state(self) -> dict[str, Tensor]:
        """Return the memory."""
        return dict(self.loss.state_dict())

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take the memory back."""
        self.loss.load_state_dict(state)


def memory_of(loss: Loss) -> list[Hook]:
    """Return the hook that keeps the loss's memory, for a loss that has one."""
    loss = getattr(loss, "base", loss)  # a debiased loss remembers nothing itself
    return [LossMemory(loss)] if hasattr(loss, "state_dict") else []
