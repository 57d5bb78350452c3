"""The fixed mix: the weights that the reward brings, throughout."""

from torch import Tensor

from lorank.ranking.policies.mixes.registry import RewardMix, reward_mix


@reward_mix("fixed")
class FixedMix(RewardMix):
    """The weighted sum of the parts.

    >>> import torch
    >>> FixedMix([1.0, 0.2])(torch.tensor([[1.0, 0.5]]))
    tensor([1.1000])
    """

    def __call__(self, parts: Tensor) -> Tensor:
        """Return the weighted sums [replies] of ``parts`` [replies, parts]."""
        return parts @ self.start.to(parts)
