"""Group relative policy optimisation: what replies of one prompt earned, against each other.

For G replies of a prompt with rewards r, advantages are A = (r - mean r) / (std r + 1e-4), and the loss is

    -mean_t min(rho_t A, clip(rho_t, 1 - eps, 1 + eps) A) + beta KL,
    rho_t = exp(log p_t - log p_old_t),      KL = mean_t (exp(d_t) - d_t - 1),  d_t = log p_ref_t - log p_t.

It is how Rank-R1 (setwise replies, reward 1 for the right label in the right format) and ProRank's first stage are
trained; the rewards are in :mod:`lorank.ranking.losses.rewards`.

Papers: Shao et al., DeepSeekMath, 2024 (the algorithm); Zhuang et al., Rank-R1: Enhancing Reasoning in LLM-based
Document Rerankers via Reinforcement Learning, 2025.
"""

import torch
from torch import Tensor

from lorank.errors import UsageError


def group_advantages(rewards: Tensor) -> Tensor:
    """Return the advantages of ``rewards`` [prompts, replies]: 0 where all replies of a prompt earned the same.

    >>> group_advantages(torch.tensor([[1.0, 1.0], [1.0, 0.0]])).round(decimals=2)
    tensor([[ 0.0000,  0.0000],
            [ 0.7100, -0.7100]])
    """
    apart = rewards - rewards.mean(-1, keepdim=True)
    return apart / (rewards.std(-1, keepdim=True) + 1e-4)


def grpo_loss(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    reference_log_probs: Tensor | None = None,
    clip: float = 0.2,
    beta: float = 0.04,
) -> Tensor:
    """Return the loss of the tokens of replies.

    Args:
        log_probs: Of the tokens under the policy, [replies, tokens].
        old_log_probs: Under the policy that wrote them, [replies, tokens].
        advantages: Of the replies, [replies].
        mask: True at tokens of the reply, [replies, tokens].
        reference_log_probs: Under the model that the policy should stay near; without it there is no KL term.
        clip: How far the ratio may move the loss, eps.
        beta: Weight of the KL term.
    """
    if not log_probs.shape == old_log_probs.shape == mask.shape or advantages.shape != log_probs.shape[:1]:
        raise UsageError(
            f"log_probs, old_log_probs and mask are [replies, tokens] and advantages [replies], got "
            f"{tuple(log_probs.shape)}, {tuple(old_log_probs.shape)}, {tuple(mask.shape)} and "
            f"{tuple(advantages.shape)}"
        )
    ratio = (log_probs - old_log_probs).exp()
    gain = advantages[:, None]
    each = -torch.minimum(ratio * gain, ratio.clamp(1 - clip, 1 + clip) * gain)
    if reference_log_probs is not None:
        apart = reference_log_probs - log_probs
        each = each + beta * (apart.exp() - apart - 1)
    each = each.masked_fill(~mask, 0.0)
    return (each.sum(-1) / mask.sum(-1).clamp(min=1)).mean()
