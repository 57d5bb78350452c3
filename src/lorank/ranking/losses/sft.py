r"""Supervised fine-tuning: chosen replies become likelier, whatever the other replies are.

    l = -\frac{1}{|C|} \sum_{i \in C} s_i,   C the replies with a label above 0

A policy's score is its log-ratio to the reference, so this is the negative log-likelihood of the chosen replies less
the reference's, times beta: 0 before training, and with the gradient of the likelihood.

Paper: Ouyang et al. (2022), Training language models to follow instructions with human feedback, arXiv:2203.02155,
section 3.5.

*Deviations*: a reply counts by its whole likelihood, not by its mean over tokens.
"""

import torch
from torch import Tensor

from lorank.ranking.losses.core.lists import clean
from lorank.ranking.losses.core.registry import register_loss


@register_loss(
    "sft",
    title="Supervised fine-tuning: the likelihood of the chosen replies",
    area="losses.preference",
    requires=("outside",),
    contrast=False,
)
def sft(
    scores: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    outside: Tensor,
) -> Tensor:
    """Return the mean over lists of the negative mean score of their chosen replies.

    A list of one reply teaches as well as a longer one; one in which nothing was chosen teaches nothing.

    Args:
        scores: beta times the log-ratio to the reference, or log-likelihoods, [batch, list].
        labels: [batch, list]; above 0 is chosen.
        mask: bool [batch, list], True where there is a reply.
        weights: [batch] or [batch, list]; a reply's weight multiplies its own score.
        outside: bool [batch], True where nothing was chosen.

    >>> sft(torch.tensor([[0.5, 0.1, 9.0]]), torch.tensor([[1, 1, 0]]), outside=torch.tensor([False]))
    tensor(-0.3000)
    """
    lists = clean(scores, labels, mask, weights)
    chosen = torch.where(lists.mask & (lists.labels > 0), 1.0, 0.0).to(lists.scores)
    share = lists.weigh(chosen / chosen.sum(1, keepdim=True).clamp(min=1))
    return lists.mean(-(share * lists.scores).sum(1), lists.mask.any(1) & ~outside)
