r"""ADEPT: a bandit learns how many steps the replies of one draw are worth.

    arms k = 1, 2, 4, ..., updates;   mean_k is that of the last W rewards that followed k steps, sigma the standard
    deviation of all that are remembered:

    ucb        k = argmax  mean_k + c \sigma \sqrt{ \log t / n_k }
    thompson   k = argmax  of draws from N( mean_k, (c \sigma)^2 / \min(n_k, W) )

t draws were made so far, n_k of them with arm k; an arm that was never tried comes first, the smallest number before
the others. Many steps on one draw save writing replies and learn from what the policy would no longer write; which
number serves best changes over a run, and old rewards are forgotten.

Paper: M. Yuan et al., Adaptive Data Exploitation in Deep Reinforcement Learning, 2025, arXiv:2501.12620.

*Deviations*: the paper values an arm by its critic's mean prediction over the next batch; these policies have no
critic, and the mean reward of the next draw stands in its place. c is in units of the spread of rewards, so that a
reward of any scale explores alike. Reconstructed from the paper's description; its round-robin is left out.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.ranking.policies.reuse.registry import DataReuse, data_reuse


def arms_up_to(most: int) -> list[int]:
    """Return 1, 2, 4, ... below ``most``, and ``most``.

    >>> arms_up_to(1), arms_up_to(4), arms_up_to(6)
    ([1], [1, 2, 4], [1, 2, 4, 6])
    """
    return sorted({1 << power for power in range(most.bit_length()) if 1 << power <= most} | {most})


class Arms(DataReuse):
    """The arms with the rewards that followed them; what chooses among them is the subclass's.

    Args:
        updates: The largest arm.
        c: How much is explored, 0 and up.
        window: W, 1 or more.
    """

    adapts = True

    def __init__(self, updates: int, *, c: float = 1.0, window: int = 10) -> None:
        super().__init__(updates)
        if not c >= 0 or window < 1:
            raise UsageError(f"c must be 0 or above and window 1 or above; got {c}, {window}")
        self.arms, self.c, self.window = arms_up_to(updates), c, window
        self.pulls = torch.zeros(len(self.arms), dtype=torch.int64)
        self.returns = torch.full((len(self.arms), window), math.nan, dtype=torch.float64)
        self.pending = -1

    def choose(self, generator: torch.Generator) -> int:
        """Return an arm that was never tried while there is one, then that of the rule.

        Args:
            generator: The source of Thompson's draws.
        """
        fresh = (self.pulls == 0).nonzero().flatten()
        self.pending = int(fresh[0]) if len(fresh) else int(self.scores(generator).argmax())
        return self.arms[self.pending]

    @abstractmethod
    def scores(self, generator: torch.Generator) -> Tensor:
        """Return what the arms are chosen by, [arms]; each was tried."""

    def observe(self, earned: float) -> None:
        """Credit the arm that was chosen last."""
        if self.pending < 0:
            return
        self.returns[self.pending, int(self.pulls[self.pending]) % self.window] = earned
        self.pulls[self.pending] += 1
        self.pending = -1

    def means(self) -> Tensor:
        """Return the mean reward that is remembered of each arm, [arms]."""
        return self.returns.nanmean(1)

    def spread(self) -> float:
        """Return the standard deviation of all rewards that are remembered."""
        there = self.returns[~self.returns.isnan()]
        return float(there.std(correction=0)) if len(there) else 0.0

    def state_dict(self) -> dict[str, Tensor]:
        """Return the rewards, how often each arm was chosen, and the arm whose reward is still to come."""
        return {"returns": self.returns.clone(), "pulls": self.pulls.clone(), "pending": torch.tensor(self.pending)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take them up."""
        self.returns, self.pulls = state["returns"].clone(), state["pulls"].clone()
        self.pending = int(state["pending"])


@data_reuse("ucb")
@catalogued(
    "adept-rl",
    area="rl",
    title="Adaptive Data Exploitation in Deep Reinforcement Learning",
)
class UpperConfidence(Arms):
    """Choose the number of steps by its upper confidence bound.

    >>> way, draws = UpperConfidence(2), torch.Generator()
    >>> for earned in (0.1, 0.9): _ = way.choose(draws); way.observe(earned)
    >>> way.choose(draws)                                      # one step earned 0.1 afterwards, two 0.9
    2
    """

    def scores(self, generator: torch.Generator) -> Tensor:
        """Return mean_k + c sigma sqrt(log t / n_k).

        Args:
            generator: Not used.
        """
        total = torch.tensor(float(self.pulls.sum()), dtype=torch.float64)
        return self.means() + self.c * self.spread() * (total.log() / self.pulls).sqrt()


@data_reuse("thompson")
class GaussianThompson(Arms):
    """Choose the number of steps by a draw from what its mean may be."""

    def scores(self, generator: torch.Generator) -> Tensor:
        """Return a draw for each arm.

        Args:
            generator: The source of the draws.
        """
        counts = self.pulls.clamp(max=self.window).to(torch.float64)
        noise = torch.randn(len(self.arms), dtype=torch.float64, generator=generator)
        return self.means() + self.c * self.spread() * noise / counts.sqrt()
