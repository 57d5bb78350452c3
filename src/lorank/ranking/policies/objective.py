r"""The clipped objective: how far a reply's advantage may move the policy that wrote it.

    l = -mean_t \min(\rho_t A_t, clip(\rho_t, 1 - \epsilon_{low}, 1 + \epsilon_{high}) A_t) + \beta KL_t
    \rho_t = \exp( mean_{u \in U(t)} ( \log p_u - \log p^{old}_u ) ),
    KL_t = e^{d_t} - d_t - 1,  d_t = \log p^{ref}_t - \log p_t

U(t) is the unit that token t belongs to: the token itself (GRPO), the whole reply (GSPO: the ratio normalised by
length), or the item of a list (Rank-GRPO: the geometric mean of the item's token ratios). The mean runs over the tokens
of a reply, then over replies.

Papers: Schulman et al., Proximal Policy Optimization Algorithms, 2017; Shao et al., DeepSeekMath, 2024; Zheng et al.,
Group Sequence Policy Optimization, 2025; Zhu et al., Rank-GRPO, 2025.

*Deviations*: the mean over tokens is each reply's own, so that long replies do not outweigh short ones; within a list
long items still outweigh short ones, as in Rank-GRPO's code.
"""

import torch
from torch import Tensor

from lorank.errors import UsageError


def clipped_objective(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    units: Tensor | None = None,
    reference_log_probs: Tensor | None = None,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    beta: float = 0.0,
) -> Tensor:
    """Return the loss of replies, a scalar.

    Args:
        log_probs: Of the tokens under the policy, [replies, tokens].
        old_log_probs: Under the policy that wrote them, [replies, tokens].
        advantages: [replies], or [replies, tokens] where parts of a reply have advantages of their own.
        mask: True at tokens of the reply, [replies, tokens].
        units: int64 [replies, tokens], the number of each token's unit from 0; None for units of one token.
        reference_log_probs: Under the model that the policy is to stay near; None leaves the divergence out.
        clip_low: epsilon_low, above 0.
        clip_high: epsilon_high, above 0.
        beta: The weight of the divergence, 0 and up.

    >>> zero = torch.zeros(1, 2)
    >>> clipped_objective(zero + 1.0, zero, torch.tensor([1.0]), zero == 0)        # a ratio of e is clipped at 1.2
    tensor(-1.2000)
    """
    if not log_probs.shape == old_log_probs.shape == mask.shape or advantages.shape not in (
        log_probs.shape,
        log_probs.shape[:1],
    ):
        raise UsageError(
            f"log_probs, old_log_probs and mask are [replies, tokens] and advantages [replies] or [replies, tokens]; "
            f"got {[list(each.shape) for each in (log_probs, old_log_probs, mask, advantages)]}"
        )
    gain = advantages if advantages.dim() == 2 else advantages.unsqueeze(1)
    apart = (log_probs - old_log_probs).masked_fill(~mask, 0.0)
    ratio = (apart if units is None else unit_means(apart, units, mask)).exp()
    each = -torch.minimum(ratio * gain, ratio.clamp(1 - clip_low, 1 + clip_high) * gain)
    if reference_log_probs is not None and beta:
        away = (reference_log_probs - log_probs).masked_fill(~mask, 0.0)
        each = each + beta * (away.exp() - away - 1)
    each = each.masked_fill(~mask, 0.0)
    return (each.sum(1) / mask.sum(1).clamp(min=1)).mean()


def unit_means(values: Tensor, units: Tensor, mask: Tensor) -> Tensor:
    """Return for each token the mean of ``values`` over the tokens of its unit, [replies, tokens].

    Args:
        values: [replies, tokens].
        units: int64 [replies, tokens].
        mask: True at tokens that count.

    >>> unit_means(torch.tensor([[1.0, 3.0, 5.0]]), torch.tensor([[0, 0, 1]]), torch.ones(1, 3, dtype=torch.bool))
    tensor([[2., 2., 5.]])
    """
    width = int(units.max()) + 1 if units.numel() else 1
    there = mask.to(values)
    total = values.new_zeros(len(values), width).scatter_add(1, units, values * there)
    count = values.new_zeros(len(values), width).scatter_add(1, units, there).clamp(min=1)
    return (total / count).gather(1, units)
