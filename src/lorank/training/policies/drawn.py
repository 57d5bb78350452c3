"""Replies that were drawn for one step, with what they earned, and both as tensors for a checkpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Drawn:
    """The kept replies of a draw.

    Attributes:
        prompts: The tokens of each reply's prompt.
        replies: The tokens of each reply.
        advantages: [replies], [replies, places], or of each token [replies, tokens], aligned at the end.
        old_logs: Under the policy that wrote them [replies, tokens], aligned at the end; empty for one update a draw.
        earned: The mean reward of all replies that were drawn.
        temperature: At which they were drawn.
    """

    prompts: list[list[int]]
    replies: list[list[int]]
    advantages: Tensor
    old_logs: Tensor
    earned: float
    temperature: float

    def state(self) -> dict[str, Tensor]:
        """Return all of it as tensors."""
        return {
            **_packed("prompts", self.prompts),
            **_packed("replies", self.replies),
            "advantages": self.advantages.cpu().contiguous(),
            "old_logs": self.old_logs.cpu().contiguous(),
            "numbers": torch.tensor([self.earned, self.temperature], dtype=torch.float64),
        }

    @classmethod
    def of_state(cls, state: Mapping[str, Tensor]) -> "Drawn":
        """Return what ``state`` gave."""
        earned, temperature = state["numbers"].tolist()
        prompts, replies = _unpacked("prompts", state), _unpacked("replies", state)
        return cls(prompts, replies, state["advantages"].clone(), state["old_logs"].clone(), earned, temperature)


def _packed(name: str, rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    flat = [token for row in rows for token in row]
    return {
        f"{name}.tokens": torch.tensor(flat, dtype=torch.int64),
        f"{name}.lengths": torch.tensor([len(row) for row in rows], dtype=torch.int64),
    }


def _unpacked(name: str, state: Mapping[str, Tensor]) -> list[list[int]]:
    parts = state[f"{name}.tokens"].split(state[f"{name}.lengths"].tolist())
    return [part.tolist() for part in parts]
