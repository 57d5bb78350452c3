"""Reinforce-Ada: prompts are sampled in rounds, and leave once they have shown enough.

In each of at most ``rounds`` rounds every prompt that is still active gets ``round_size`` replies. It leaves with a
positive reply (``positive``), or with half as many positive and half as many negative ones as are kept (``balanced``).
Of each prompt ``samples`` replies are kept, as even a split of positive and negative ones as there are; the mean over
*all* of its samples is the baseline, which corrects that replies were kept by what they earned.

Paper: W. Xiong et al., Reinforce-Ada: An Adaptive Sampling Framework for Reinforce-Style LLM Training, 2025.

*Deviations*: a prompt whose samples all earned the same is left out, as it has no advantage; published code keeps it.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import torch

from lorank.errors import UsageError
from lorank.ranking.policies.plans.registry import Draw, Kept, SamplingPlan, sampling_plan

Exit = Literal["positive", "balanced"]


@sampling_plan("reinforce-ada")
class ReinforceAda(SamplingPlan):
    """Sample in rounds until a prompt has shown enough, and keep a balanced group.

    Args:
        samples: Replies that are kept per prompt, 2 or more.
        rounds: The most rounds, 1 or more.
        round_size: Replies per active prompt and round; None is twice ``samples``.
        leave: ``positive`` or ``balanced``.
        threshold: A reply is positive from this reward on.
    """

    def __init__(
        self,
        samples: int,
        *,
        rounds: int = 4,
        round_size: int | None = None,
        leave: str = "balanced",
        threshold: float = 0.5,
    ) -> None:
        super().__init__(samples)
        if samples < 2 or rounds < 1 or (round_size is not None and round_size < 1):
            raise UsageError(
                f"samples must be 2 or above, rounds and round_size 1 or above; got {samples}, {rounds}, {round_size}"
            )
        if leave not in get_args(Exit):
            raise UsageError(f"leave={leave!r}: choose one of {', '.join(get_args(Exit))}")
        self.rounds, self.round_size = rounds, round_size or 2 * samples
        self.leave, self.threshold = leave, threshold

    def sample(self, prompts: Sequence[int], draw: Draw, generator: torch.Generator) -> Kept:
        """Draw in rounds and keep balanced groups.

        Args:
            prompts: A number for each prompt of the step.
            draw: Draws a reply for each place, and returns their rewards.
            generator: The source of the choice among a prompt's replies.
        """
        owners: list[int] = []
        rewards = torch.zeros(0)
        active = list(range(len(prompts)))
        for _ in range(self.rounds):
            places = [place for place in active for _ in range(self.round_size)]
            rewards = torch.cat([rewards, draw(places).detach().cpu().float()])
            owners += places
            active = [place for place in active if not self._leaves(rewards[_of(owners, place)])]
            if not active:
                break
        kept: list[int] = []
        baselines = torch.zeros(len(prompts))
        for place in range(len(prompts)):
            own = _of(owners, place)
            baselines[place] = rewards[own].mean()
            if bool((rewards[own] != rewards[own][0]).any()):
                kept += [int(own[i]) for i in self._balance(rewards[own], generator)]
        return Kept(kept, baselines)

    def _leaves(self, rewards: torch.Tensor) -> bool:
        positive = int((rewards >= self.threshold).sum())
        if self.leave == "positive":
            return positive >= 1
        return positive >= self.samples // 2 and len(rewards) - positive >= self.samples // 2

    def _balance(self, rewards: torch.Tensor, generator: torch.Generator) -> list[int]:
        """Return which of a prompt's replies are kept: half positive and half negative, as far as there are."""
        mixed = torch.randperm(len(rewards), generator=generator)
        positive = [int(i) for i in mixed if rewards[i] >= self.threshold]
        negative = [int(i) for i in mixed if rewards[i] < self.threshold]
        half = self.samples // 2
        first = min(len(positive), max(half, self.samples - len(negative)))
        chosen = positive[:first] + negative[: self.samples - first]
        return sorted(chosen)


def _of(owners: Sequence[int], place: int) -> torch.Tensor:
    return torch.tensor([i for i, owner in enumerate(owners) if owner == place], dtype=torch.int64)
