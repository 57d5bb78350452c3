r"""A reward with an outside option: people may find none of the answers good enough.

    P(i) = \frac{e^{r_i}}{1 + \sum_j e^{r_j}},   P(none) = \frac{1}{1 + \sum_j e^{r_j}}

The reward of what is just acceptable is 0, so a reward above 0 says that an answer is better than nothing, which the
differences of Bradley and Terry's model never say. A list whose labels are all 0 is one in which nothing was chosen.

Paper: A Contextual Quality Reward Model for Reliable and Efficient Best-of-N Sampling, 2025 (discrete choice with an
outside option; stopping early with it is in :mod:`lorank.ranking.preferences.early_exit`).

*Deviations*: where several answers were chosen each is a choice of its own, of equal weight.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from lorank.ranking.losses.core.lists import clean, lowest_score, normalise
from lorank.ranking.losses.core.registry import register_loss
from lorank.ranking.losses.softmax import cross_entropy


@register_loss(
    "contextual-quality-rm",
    area="losses.preference",
    requires=("outside",),
    title="A Contextual Quality Reward Model for Reliable and Efficient Best-of-N Sampling",
)
def contextual_quality(
    scores: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    outside: Tensor,
    outside_option: bool = True,
) -> Tensor:
    """Return the mean over lists of the negative log-probability of what was chosen.

    Args:
        scores: Rewards r [batch, list].
        labels: [batch, list]; above 0 is chosen.
        mask: bool [batch, list], True where there is an answer.
        weights: [batch] or [batch, list]; an answer's weight multiplies its own term.
        outside: bool [batch], True where nothing was chosen.
        outside_option: Whether nothing could be chosen; without, lists in which nothing was do not count, and a pair
            is Bradley and Terry's.

    >>> import math
    >>> value = contextual_quality(torch.zeros(1, 2), torch.zeros(1, 2), outside=torch.tensor([True]))
    >>> math.isclose(value, math.log(3), rel_tol=1e-6)
    True
    """
    lists = clean(scores, labels, mask, weights)
    chosen = torch.where(lists.mask, (lists.labels > 0).to(lists.scores), 0.0)
    share = normalise(chosen)
    if not outside_option:
        return cross_entropy(lists, share, counted=lists.mask.any(1) & ~outside)
    each = F.pad(lists.fill(lists.scores, lowest_score(lists.scores)), (1, 0)).log_softmax(1)
    taken = (lists.weigh(share) * each[:, 1:]).sum(1) + torch.where(outside, each[:, 0], 0.0)
    return lists.mean(-taken, lists.mask.any(1))
