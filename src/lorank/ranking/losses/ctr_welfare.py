r"""The welfare loss of an advertisement auction: pairs ordered by bid times click, weighed by what is at stake.

    l = \sum_{b_i y_i > b_j y_j} (b_i y_i - b_j y_j) \log(1 + \exp(-\sigma (b_i p_i - b_j p_j))),   p = sigmoid(s)

An auction that ranks by b p loses welfare where it puts the smaller b y first. With ``teacher`` labels (a calibrated
model's click probabilities in place of clicks) the pairs carry less noise; the function is the same.

Paper: B. Lyu, Z. Feng, Z. Robertson, S. Koyejo, Pairwise Ranking Losses of Click-Through Rates Prediction for Welfare
Maximization in Ad Auctions, ICML 2023.

*Deviations*: the paper's surrogates of the order of two bids are several; this is the logistic one.
"""

import torch
from torch import Tensor

from lorank.ranking.losses.core.lists import check_label_size, check_positive, clean
from lorank.ranking.losses.core.pairs import ordered_pair_weights, pairwise, sides
from lorank.ranking.losses.core.registry import register_loss


@register_loss(
    "ctr-welfare-rankloss",
    title="Pairwise Ranking Losses of Click-Through Rates Prediction for Welfare Maximization in Ad Auctions",
    area="recsys",
)
def ctr_welfare(
    scores: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    bids: Tensor | None = None,
    sigma: float = 1.0,
) -> Tensor:
    """Return the mean over auctions of the sum of their weighted pair losses.

    Args:
        scores: Logits of a click [batch, list].
        labels: Clicks or a teacher's click probabilities [batch, list], 0 to 1.
        mask: bool [batch, list], True where there is an advertisement.
        weights: [batch] or [batch, list]; a pair has the weight of its more valuable advertisement.
        bids: [batch, list], 0 and up; None means that all bid 1.
        sigma: Steepness, above 0.

    Returns:
        A scalar, 0 or more.

    >>> import math
    >>> value = ctr_welfare(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), bids=torch.tensor([[3.0, 5.0]]))
    >>> math.isclose(value, 3 * math.log1p(math.exp(-(3 - 5) / 2)), rel_tol=1e-6)
    True
    """
    check_positive(sigma=sigma)
    bids = torch.ones_like(scores) if bids is None else bids
    offered = clean(bids, labels, mask)
    lists = clean(scores, bids * labels.to(offered.labels.dtype), mask, weights)
    check_label_size(lists, scores)
    winners, ordered = ordered_pair_weights(lists)

    def at_stake(block: slice) -> Tensor:
        value_i, value_j = sides(lists.labels, winners, block)
        return ordered(block).mul_(value_i - value_j)

    return lists.mean(pairwise(offered.scores * lists.scores.sigmoid(), winners, at_stake, sigma))
