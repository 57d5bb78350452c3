"""What a plan remembers of prompts: how often their replies were right, from the last time that they were asked."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


class SuccessRates:
    r"""The rate at which each prompt's replies earn a reward, smoothed as by a Beta(1, 1) prior.

        \hat p = (hits + 1) / (samples + 2)

    A prompt that was never right, or always, keeps a rate between 0 and 1, and so is not given up for ever. One that
    was never asked has 1/2. Hits are sums of rewards cut to [0, 1].

    >>> rates = SuccessRates()
    >>> rates.record([4, 4, 9], torch.tensor([1.0, 1.0, 0.0]))
    >>> rates.of([4, 9, 5])
    tensor([0.7500, 0.3333, 0.5000])
    """

    def __init__(self) -> None:
        self.prompts = torch.zeros(0, dtype=torch.int64)
        self.hits, self.counts = torch.zeros(0), torch.zeros(0)

    def of(self, prompts: Sequence[int]) -> Tensor:
        """Return the rate of each prompt, [prompts]."""
        hits, counts = self._read(prompts)
        return (hits + 1) / (counts + 2)

    def known(self, prompts: Sequence[int]) -> Tensor:
        """Return which prompts were asked before, bool [prompts]."""
        return self._read(prompts)[1] > 0

    def record(self, prompts: Sequence[int], rewards: Tensor) -> None:
        """Take the replies of one step in place of what was known of their prompts.

        Args:
            prompts: The prompt of each reply.
            rewards: What each earned, [replies].
        """
        asked, at = torch.tensor(list(prompts), dtype=torch.int64).unique(return_inverse=True)
        earned = rewards.detach().cpu().float().clamp(0, 1)
        hits = torch.zeros(len(asked)).index_add_(0, at, earned)
        counts = torch.zeros(len(asked)).index_add_(0, at, torch.ones_like(earned))
        rest = ~torch.isin(self.prompts, asked)
        merged = torch.cat([self.prompts[rest], asked])
        order = merged.argsort()
        self.prompts = merged[order]
        self.hits = torch.cat([self.hits[rest], hits])[order]
        self.counts = torch.cat([self.counts[rest], counts])[order]

    def state_dict(self) -> dict[str, Tensor]:
        """Return the memory, for a checkpoint."""
        return {"prompts": self.prompts.clone(), "hits": self.hits.clone(), "counts": self.counts.clone()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take up a memory that ``state_dict`` gave."""
        self.prompts, self.hits, self.counts = (state[key].clone() for key in ("prompts", "hits", "counts"))

    def _read(self, prompts: Sequence[int]) -> tuple[Tensor, Tensor]:
        asked = torch.tensor(list(prompts), dtype=torch.int64)
        if not len(self.prompts):
            return torch.zeros(len(asked)), torch.zeros(len(asked))
        at = torch.searchsorted(self.prompts, asked).clamp(max=len(self.prompts) - 1)
        found = self.prompts[at] == asked
        return self.hits[at] * found, self.counts[at] * found
