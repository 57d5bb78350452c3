r"""MarginMSE: gaps between scores should be the teacher's gaps.

    l = \frac{2}{n (n - 1)} \sum_{i < j} [ (s_i - s_j) - (y_i - y_j) ]^2

over all pairs of a list, with the teacher's scores as labels; neither side's level matters.

Paper: S. Hofstätter, S. Althammer, M. Schröder, M. Sertkan, A. Hanbury, Improving Efficient Neural Ranking Models
with Cross-Architecture Knowledge Distillation, 2020.

*Deviations*: the paper takes one pair of a relevant and an irrelevant document; on a list of two it is the same.
The sum over pairs is computed from the centred differences d_i = s_i - y_i - mean as n \sum_i d_i^2, without pairs.
"""

from torch import Tensor

from lorank.ranking.losses.core.lists import check_label_size, clean
from lorank.ranking.losses.core.registry import register_loss


@register_loss(
    "margin-mse",
    title="Improving Efficient Neural Ranking Models with Cross-Architecture Knowledge Distillation (MarginMSE)",
    aliases=("marginmse", "pairwise-mse"),
)
def margin_mse(
    scores: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Return the mean over lists of the mean squared difference of gaps, over all pairs of documents.

    Args:
        scores: [batch, list].
        labels: The teacher's scores [batch, list], any real numbers.
        mask: bool [batch, list], True where there is a document.
        weights: [batch] or [batch, list]; a pair has the mean weight of its two documents.

    Returns:
        A scalar, 0 or more.

    >>> import torch
    >>> margin_mse(torch.tensor([[1.0, 3.0]]), torch.tensor([[5.0, 0.0]]))   # gap -2, should be 5
    tensor(49.)
    """
    lists = clean(scores, labels, mask, weights)
    check_label_size(lists, scores)
    sizes = lists.sizes
    difference = lists.scores - lists.labels
    centred = difference - (difference.sum(1) / sizes).unsqueeze(1)
    squares = centred.square().where(lists.mask, 0.0)
    own = lists.weigh(sizes.unsqueeze(1) * squares + squares.sum(1, keepdim=True))
    return lists.mean(own.sum(1) / (sizes * (sizes - 1)).clamp(min=1))
