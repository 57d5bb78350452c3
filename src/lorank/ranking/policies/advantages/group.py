r"""Group-relative advantages: a reply against the replies to the same prompt.

    group      A_i = (r_i - mean r) / (std r + 1e-4)
    centred    A_i = r_i - mean r
    per-rank   group, for each rank of a list by itself:  A_{i,k} = (r_{i,k} - mean_k r) / (std_k r + 1e-4)

std divides by G - 1. A group whose replies all earned the same has no advantage. Without the division an easy and a
hard prompt weigh alike per unit of reward; at late ranks, where hardly any list earns anything, the division turns one
lucky hit into a huge advantage, and ``centred`` on [replies, places] is the safer choice.

Papers: Shao et al., DeepSeekMath, 2024 (group); Liu et al., Understanding R1-Zero-Like Training, 2025 (centred); Zhu et
al., Rank-GRPO: Training LLM-based Conversational Recommender Systems with Reinforcement Learning, 2025 (per-rank).
"""

from torch import Tensor

from lorank.errors import UsageError
from lorank.ranking.policies.advantages.registry import Replies, advantage

EPSILON = 1e-4
"""What is added to a group's standard deviation, as in the published code of GRPO and Rank-GRPO."""


@advantage("group")
def group(replies: Replies) -> Tensor:
    """Return the rewards standardised within their group.

    >>> import torch
    >>> group(Replies(torch.tensor([1.0, 0.0, 1.0, 1.0]), torch.tensor([0, 0, 1, 1]))).round(decimals=2)
    tensor([ 0.7100, -0.7100,  0.0000,  0.0000])
    """
    apart = replies.rewards - replies.means()
    variance = replies.sums(apart.square()) / (replies.sizes() - 1).clamp(min=1)
    return apart / (variance.sqrt() + EPSILON)


@advantage("centred")
def centred(replies: Replies) -> Tensor:
    """Return the rewards less the mean of their group.

    >>> import torch
    >>> centred(Replies(torch.tensor([1.0, 0.0, 0.5]), torch.tensor([0, 0, 0])))
    tensor([ 0.5000, -0.5000,  0.0000])
    """
    return replies.rewards - replies.means()


@advantage("per-rank")
def per_rank(replies: Replies) -> Tensor:
    """Return the rewards of each rank [replies, places] standardised within their group and rank.

    Raises:
        UsageError: For rewards of whole replies.

    >>> import torch
    >>> per_rank(Replies(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 0]))).round(decimals=2)
    tensor([[ 0.7100,  0.0000],
            [-0.7100,  0.0000]])
    """
    if replies.rewards.dim() != 2:
        raise UsageError("advantage 'per-rank' takes a reward for each rank of a list; use 'group' for whole replies")
    return group(replies)
