r"""RankNet: the logistic loss on every pair of documents with different labels.

    l = \frac{1}{|\{y_i > y_j\}|} \sum_{y_i > y_j} \log(1 + \exp(-\sigma (s_i - s_j)))

Paper: C. Burges et al., Learning to Rank using Gradient Descent, ICML 2005.

*Deviations*: the mean over a list's pairs rather than their sum, so that long lists do not drown short ones.
"""

from torch import Tensor

from lorank.ranking.losses.core.lists import check_positive, clean
from lorank.ranking.losses.core.pairs import mean_pair_loss
from lorank.ranking.losses.core.registry import register_loss


@register_loss("ranknet", title="Learning to Rank using Gradient Descent (RankNet)", aliases=("pairwise-logistic",))
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
    return mean_pair_loss(clean(scores, labels, mask, weights), sigma)
