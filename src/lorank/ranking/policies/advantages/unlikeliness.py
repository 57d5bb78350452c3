r"""Unlikeliness: of the right replies, those that the policy hardly ever writes earn most.

    r_i \leftarrow r_i (1 - \beta \rho_i / G),   \rho_i = 0 for the least likely of the G replies, 1 for the next, ...

then group-relative. GRPO alone sharpens: likely right replies become likelier and rare ones die out, so that many
samples find no more than one does. The likelihood is the mean log-probability of a reply's tokens, ranked over all
replies of the prompt, wrong ones too.

Paper: A. He, D. Fried, S. Welleck, Rewarding the Unlikely: Lifting GRPO Beyond Distribution Sharpening, 2025,
arXiv:2506.02355.

*Deviations*: the paper's (G - rank) / G counts from the most likely, which leaves even the rarest reply at 1 - beta /
G; its published code counts from the least likely, and so does this: the rarest keeps its whole reward.
"""

import torch
from torch import Tensor

from lorank.errors import UsageError
from lorank.ranking.policies.advantages.group import group
from lorank.ranking.policies.advantages.registry import Replies, advantage


def unlikely_rewards(replies: Replies, beta: float) -> Tensor:
    """Return r_i (1 - beta rho_i / G), shaped as the rewards.

    Args:
        replies: The replies, with their log-probabilities.
        beta: From 0 to 1.

    >>> likely_first = Replies(torch.ones(2), torch.zeros(2, dtype=torch.long), log_probs=torch.tensor([-1.0, -5.0]))
    >>> unlikely_rewards(likely_first, 0.5)
    tensor([0.7500, 1.0000])
    """
    if not 0 <= beta <= 1:
        raise UsageError(f"beta must be from 0 to 1; got {beta}")
    if replies.log_probs is None:
        raise UsageError("advantage 'unlikeliness' takes the log-probabilities of the replies")
    logs = replies.log_probs
    same = replies.groups.unsqueeze(0) == replies.groups.unsqueeze(1)
    place = torch.arange(len(logs), device=logs.device)
    before = (logs.unsqueeze(0) < logs.unsqueeze(1)) | (
        (logs.unsqueeze(0) == logs.unsqueeze(1)) & (place.unsqueeze(0) < place.unsqueeze(1))
    )
    rank = (same & before).sum(1).to(replies.rewards)
    factor = 1 - beta * rank / same.sum(1)
    return replies.rewards * (factor if replies.rewards.dim() == 1 else factor.unsqueeze(1))


@advantage("unlikeliness")
def unlikeliness(replies: Replies, *, beta: float = 0.25) -> Tensor:
    """Return the group-relative advantages of rewards that are lowered for likely replies.

    Args:
        replies: The replies, with their log-probabilities.
        beta: How much the likeliest reply loses, from 0 (GRPO) to 1.

    >>> one_prompt, logs = torch.zeros(3, dtype=torch.long), torch.tensor([-1.0, -5.0, -2.0])
    >>> right = Replies(torch.tensor([1.0, 1.0, 0.0]), one_prompt, logs)
    >>> likely, rare, wrong = unlikeliness(right).tolist()
    >>> rare > likely > wrong
    True
    """
    return group(Replies(unlikely_rewards(replies, beta), replies.groups))
