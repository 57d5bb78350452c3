r"""RankNet: the logistic loss on every pair of documents with different labels.

    l = \frac{1}{|\{y_i > y_j\}|} \sum_{y_i > y_j} \log(1 + \exp(-\sigma (s_i - s_j)))

Paper: C. Burges et al., Learning to Rank using Gradient Descent, ICML 2005.

*Deviations*: the mean over a list's pairs rather than their sum, so that long lists do not drown short ones.
"""

from torch import Tensor

from lorank.ranking.losses.lists import check_positive, clean
from lorank.ranking.losses.pairs import ordered_pairs, pairwise_logistic, winner_places
from lorank.ranking.losses.registry import register_loss


@register_loss("ranknet", title="Learning to Rank using Gradient Descent (RankNet)",
               aliases=("pairwise-logistic",))
def ranknet(
    scores: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    sigma: float = 1.0,
) -> Tensor:
    """Return the mean over lists of the mean logistic loss of their ordered pairs.

    Args:
        scores: [batch, list].
        labels: [batch, list].
        mask: bool [batch, list], True where there is a document.
        weights: [batch] or [batch, list]; a pair has the weight of its more relevant document.
        sigma: Steepness of the logistic function, above 0.

    Returns:
        A scalar, 0 or more.

    >>> import math, torch
    >>> value = ranknet(torch.tensor([[1.0, 3.0]]), torch.tensor([[2.0, 0.0]]))
    >>> math.isclose(value, math.log1p(math.exp(2)), rel_tol=1e-6)
    True
    """
    check_positive(sigma=sigma)
    lists = clean(scores, labels, mask, weights)
    above_lowest = lists.labels > lists.labels.masked_fill(~lists.mask, float("inf")).amin(1, keepdim=True)
    winners = winner_places(lists.mask & above_lowest)

    def pair_weights(block: slice) -> Tensor:
        label, places = lists.labels[block], winners[block]
        counts = (label.gather(1, places).unsqueeze(2) > label.unsqueeze(1)) & lists.mask[block].unsqueeze(1)
        counts &= lists.mask[block].gather(1, places).unsqueeze(2)
        weight = counts.to(label.dtype)
        return weight if lists.item_weights is None else weight.mul_(
            lists.item_weights[block].gather(1, places).unsqueeze(2))

    total = pairwise_logistic(lists.scores, winners, pair_weights, sigma)
    return lists.mean(total / ordered_pairs(lists).clamp(min=1))
